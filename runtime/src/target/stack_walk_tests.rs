use super::*;
use crate::target::memory::Bytes;

const IMAGE: u64 = 0x1_4000_0000;
const STACK: u64 = 0x10_0000;
const RSP: usize = 4;

/// An image with two functions: one at 0x100 of 16 bytes that takes 32 bytes of stack, one at 0x200 that takes 8; their records
/// stand at 0x400 and 0x410, their table at 0x500.
fn image() -> Bytes {
    let mut bytes = vec![0x90; 0x1000];
    bytes[0x400..0x406].copy_from_slice(&[1, 4, 1, 0, 4, 0x32]);
    bytes[0x410..0x416].copy_from_slice(&[1, 4, 1, 0, 4, 0x02]);
    for (index, field) in [0x100u32, 0x110, 0x400, 0x200, 0x280, 0x410].iter().enumerate() {
        bytes[0x500 + index * 4..][..4].copy_from_slice(&field.to_le_bytes());
    }
    Bytes { base: IMAGE, bytes }
}

fn tables(memory: &Bytes) -> Vec<FunctionTable> {
    vec![FunctionTable::read(memory, IMAGE..IMAGE + 0x1000, IMAGE, (IMAGE + 0x500, 2)).unwrap()]
}

fn walk_from(rip: u64, stack: &[u64]) -> Walk {
    let memory = image();
    let mut general = [0; 16];
    general[RSP] = STACK;
    let registers = Registers { rip, general };
    let snapshot = Snapshot { memory: &memory, registers, stack_base: STACK, stack };
    walk(&snapshot, &tables(&memory), |word| (IMAGE..IMAGE + 0x1000).contains(&word))
}

fn addresses(walk: &Walk) -> Vec<(u64, bool, bool)> {
    walk.places.iter().map(|place| (place.address - IMAGE, place.is_return, place.is_certain)).collect()
}

#[test]
fn the_stack_is_walked_to_its_end() {
    // In the first function, called by the second, called by nobody. The words between are theirs, whatever they look like.
    let stale = IMAGE + 0x250;
    let walk = walk_from(IMAGE + 0x108, &[stale, stale, 0, 0, IMAGE + 0x220, stale, 0]);
    assert_eq!(addresses(&walk), [(0x108, false, true), (0x220, true, true)]);
    assert!(walk.is_whole);
}

#[test]
fn a_call_at_the_end_of_a_function_belongs_to_it() {
    let walk = walk_from(IMAGE + 0x208, &[0, IMAGE + 0x110, 0, 0, 0, 0, 0]);
    assert_eq!(addresses(&walk), [(0x208, false, true), (0x110, true, true)]);
    assert!(walk.is_whole);
}

#[test]
fn a_leaf_is_only_the_innermost() {
    let walk = walk_from(IMAGE + 0x300, &[IMAGE + 0x220, 7, 0]);
    assert_eq!(addresses(&walk), [(0x300, false, true), (0x220, true, true)]);
    assert!(walk.is_whole);
    // Somebody calls from where no function is known to be: from there on, what looks like a return address may be one.
    let walk = walk_from(IMAGE + 0x208, &[7, IMAGE + 0x300, 5, IMAGE + 0x220, 9, 0]);
    let expected = [(0x208, false, true), (0x300, true, true), (0x220, true, false)];
    assert_eq!(addresses(&walk), expected);
    assert!(!walk.is_whole);
}

#[test]
fn code_that_nobody_knows_is_looked_through_word_by_word() {
    let walk = walk_from(0x5000_0000, &[1, IMAGE + 0x108, 3, IMAGE + 0x220]);
    let found: Vec<_> = walk.places.iter().map(|place| (place.address, place.is_certain)).collect();
    assert_eq!(found, [(0x5000_0000, true), (IMAGE + 0x108, false), (IMAGE + 0x220, false)]);
    assert!(!walk.is_whole);
}

/// Whether the frames return to 0x250, and whether that is known; after something was done to the image.
fn returns_to_250(rip: u64, stack: &[u64], change: impl FnOnce(&mut Bytes)) -> Option<bool> {
    let mut memory = image();
    let tables = tables(&memory);
    change(&mut memory);
    let mut general = [0; 16];
    general[RSP] = STACK;
    let registers = Registers { rip, general };
    let snapshot = Snapshot { memory: &memory, registers, stack_base: STACK, stack };
    let end = STACK + stack.len() as u64 * 8;
    returns_to(&snapshot, &tables, registers, STACK..end, |address| address == IMAGE + 0x250)
}

#[test]
fn leftovers_between_frames_are_no_return_addresses() {
    let stale = IMAGE + 0x250;
    let whole = [stale, stale, 0, 0, IMAGE + 0x220, stale, 0];
    let nothing = |_: &mut Bytes| ();
    assert_eq!(returns_to_250(IMAGE + 0x108, &whole, nothing), Some(false));
    let returns = [0, 0, 0, 0, stale, 0, 0];
    assert_eq!(returns_to_250(IMAGE + 0x108, &returns, nothing), Some(true));
    // What cannot be unwound to its end may hide anything.
    let unknown = [stale, 0, 0, 0, 0x5000_0000, stale, 0];
    assert_eq!(returns_to_250(IMAGE + 0x108, &unknown, nothing), None);
    assert_eq!(returns_to_250(0x5000_0000, &whole, nothing), None);
    assert_eq!(returns_to_250(IMAGE + 0x108, &whole[..5], nothing), None, "the end of the stack is not seen");
    // Another image is loaded there by now.
    assert_eq!(returns_to_250(IMAGE + 0x108, &whole, |memory| memory.bytes[0x504] ^= 1), None);
    assert_eq!(returns_to_250(IMAGE + 0x108, &whole, |memory| memory.bytes[0x400] = 7), None);
}

#[test]
fn absurd_tables_are_not_read() {
    let memory = image();
    assert_eq!(FunctionTable::read(&memory, 0..1, 0, (IMAGE + 0x500, u32::MAX)), None);
    assert_eq!(FunctionTable::read(&memory, 0..1, 0, (IMAGE + 0xff8, 2)), None);
}
