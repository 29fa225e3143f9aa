//! What `hpgen_shadow.h` promises, of the crate.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use hpgen_shadow::{drop, drop_all, get, get_or_make};

/// Numbers of the tests, which run at the same time and share the table.
const ATTACHED: u32 = 1;
const DROPPED: u32 = 3;
const SIZED: u32 = 5;
const COUNTED: u32 = 6;

fn value<'a>(object: &u64, number: u32) -> Option<&'a AtomicU32> {
    // SAFETY: the tests drop nothing that they hold a reference to.
    get::<AtomicU32>(object, number).map(|found| unsafe { found.as_ref() })
}

fn made<'a>(object: &u64, number: u32) -> &'a AtomicU32 {
    // SAFETY: as above.
    unsafe { get_or_make::<AtomicU32>(object, number).unwrap().as_ref() }
}

#[test]
fn each_object_and_number_has_its_own_zeroed_memory() {
    let objects = vec![0u64; 3000];
    assert!(objects.iter().all(|object| value(object, ATTACHED).is_none()));
    for (index, object) in (0..).zip(&objects) {
        assert_eq!(made(object, ATTACHED).swap(index, Ordering::Relaxed), 0);
        assert_eq!(made(object, ATTACHED + 1).swap(index + 100_000, Ordering::Relaxed), 0);
    }
    for (index, object) in (0..).zip(&objects) {
        assert_eq!(value(object, ATTACHED).unwrap().load(Ordering::Relaxed), index);
        assert_eq!(made(object, ATTACHED + 1).load(Ordering::Relaxed), index + 100_000);
    }
    drop_all(ATTACHED);
    assert!(objects.iter().all(|object| value(object, ATTACHED).is_none() && value(object, ATTACHED + 1).is_some()));
    drop_all(ATTACHED + 1);
}

#[test]
fn what_is_dropped_is_gone_and_zeroed_when_it_comes_again() {
    let (first, second) = (1u64, 2u64);
    for object in [&first, &second] {
        made(object, DROPPED).store(7, Ordering::Relaxed);
    }
    drop(&raw const first, DROPPED);
    drop(&raw const first, DROPPED);
    assert!(value(&first, DROPPED).is_none());
    assert_eq!(value(&second, DROPPED).unwrap().load(Ordering::Relaxed), 7);
    assert_eq!(made(&first, DROPPED).load(Ordering::Relaxed), 0);
    drop_all(DROPPED);
}

#[test]
fn memory_of_another_size_is_not_given_out() {
    let object = 0u64;
    let small = get_or_make::<AtomicU8>(&raw const object, SIZED).unwrap();
    assert!(get::<[u64; 4]>(&raw const object, SIZED).is_none());
    assert!(get_or_make::<u128>(&raw const object, SIZED).is_none());
    assert_eq!(get::<AtomicU8>(&raw const object, SIZED), Some(small));
    drop(&raw const object, SIZED);
    let large = get_or_make::<u128>(&raw const object, SIZED).unwrap();
    assert!(large.is_aligned());
    drop(&raw const object, SIZED);
}

#[test]
fn threads_share_it() {
    let objects: Vec<u64> = vec![0; 50];
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for round in 0..500 {
                    made(&objects[round % objects.len()], COUNTED).fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let sum: u32 = objects.iter().map(|object| value(object, COUNTED).unwrap().load(Ordering::Relaxed)).sum();
    assert_eq!(sum, 4000);
    drop_all(COUNTED);
}
