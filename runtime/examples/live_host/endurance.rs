//! Many cycles under load, and how long threads stand still.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use hpgen_runtime::*;
use windows_sys::Win32::System::Threading::{GetCurrentProcess, Sleep};

use super::{adding, apply_to_self, of_only_image, rollback_kept, sled};
use crate::answer::answer;
use crate::leaks;
use crate::payloads::seal;

/// So much may a heap grow that is used by as many threads; a leak of one page in each of 10,000 cycles is forty times as much.
const HEAP_NOISE: usize = 1 << 20;

static STOP: AtomicBool = AtomicBool::new(false);
static CALLS: AtomicU64 = AtomicU64::new(0);

/// Handles, the loader's kind of allocations, private bytes.
fn held() -> (usize, usize, usize) {
    let handles = leaks::open_handles();
    let pages = leaks::pages_of(unsafe { GetCurrentProcess() });
    (handles, leaks::allocations(&pages), leaks::private_bytes(&pages))
}

/// Threads that call the function in bursts, as many as the processors can take. If they did nothing else, one of them would stand in its first
/// bytes at almost any time, and on a machine of few processors a stop would be the time until each was given one.
fn hammer(count: usize) -> Vec<JoinHandle<()>> {
    const BURST: u32 = 100;
    STOP.store(false, Ordering::SeqCst);
    let hammer = || {
        while !STOP.load(Ordering::Relaxed) {
            for _ in 0..BURST {
                let value = answer(1);
                assert!(value == 2 || value == 5, "{value}");
                (0..100u32).for_each(|step| {
                    std::hint::black_box(step);
                });
            }
            CALLS.fetch_add(BURST.into(), Ordering::Relaxed);
            // Not the standard library's sleep: it opens a timer each time, and the handles are counted.
            unsafe { Sleep(1) };
        }
    };
    (0..count).map(|_| thread::spawn(hammer)).collect()
}

fn stop(threads: Vec<JoinHandle<()>>) {
    STOP.store(true, Ordering::SeqCst);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

/// Handles that the system makes for a thread when it first waits. A leak of the loader's grows with every cycle.
const LATE_HANDLES: usize = 2;

/// In and out again `rounds` times while `count` threads call the function: no wrong result, and nothing is left behind.
pub fn cycles(rounds: u32, count: usize) {
    const WARM_UP: u32 = 5;
    let threads = hammer(count);
    let payload = adding(4);
    let mut stops = Vec::with_capacity(2 * (rounds + WARM_UP) as usize);
    let (mut before, mut begin) = (held(), Instant::now());
    for round in 0..rounds + WARM_UP {
        if round == WARM_UP {
            (before, begin) = (held(), Instant::now());
        }
        let applied = apply_to_self(&payload, &seal(3), &ApplyOptions::default()).unwrap();
        assert_eq!(answer(1), 5);
        stops.push(of_only_image(&applied).stopped);
        stops.push(applied.rollback().unwrap().stopped);
        rollback_kept();
        assert_eq!(answer(1), 2);
        if round % 1000 == 999 {
            println!("{:.0?}: {} cycles, {:?} held", begin.elapsed(), round + 1 - WARM_UP, held());
        }
    }
    let (took, after) = (begin.elapsed(), held());
    stop(threads);
    let calls = CALLS.load(Ordering::Relaxed);
    println!("{count} threads: {rounds} cycles in {took:.1?}, {calls} calls; stopped: {}", Distribution::of(stops));
    println!("handles, allocations, private bytes: {before:?} before, {after:?} after");
    assert!(after.0 <= before.0 + LATE_HANDLES, "{before:?} {after:?}");
    assert_eq!(before.1, after.1);
    assert!(after.2 < before.2 + HEAP_NOISE, "{before:?} {after:?}");
    println!("cycles: all done");
}

/// Prints how long threads stand still, by the number of functions and of threads, in microseconds.
pub fn bench(rounds: u32) {
    println!("| functions | threads | p50 us | p99 us | max us |");
    println!("|---:|---:|---:|---:|---:|");
    for functions in [1, 10, 100, 1000] {
        for count in [1, 8, 64] {
            // The thread that patches is one more. Most threads of a server wait.
            STOP.store(false, Ordering::SeqCst);
            let wait = || {
                while !STOP.load(Ordering::Relaxed) {
                    thread::park_timeout(Duration::from_millis(20));
                }
            };
            let threads: Vec<_> = (0..count).map(|_| thread::spawn(wait)).collect();
            let payload = sled(functions);
            let mut stops = Vec::new();
            for _ in 0..rounds {
                let applied = apply_to_self(&payload, &seal(9), &ApplyOptions::default()).unwrap();
                let status = of_only_image(&applied);
                assert_eq!((status.functions.len(), status.threads_stopped as usize), (functions, count));
                stops.extend([status.stopped, applied.rollback().unwrap().stopped]);
                rollback_kept();
            }
            stop(threads);
            let Distribution { p50, p99, max } = Distribution::of(stops);
            println!("| {functions} | {count} | {} | {} | {} |", p50.as_micros(), p99.as_micros(), max.as_micros());
        }
    }
}

struct Distribution {
    p50: Duration,
    p99: Duration,
    max: Duration,
}

impl Distribution {
    fn of(mut stops: Vec<Duration>) -> Distribution {
        stops.sort();
        let at = |percent: usize| stops[(stops.len() * percent / 100).min(stops.len() - 1)];
        Distribution { p50: at(50), p99: at(99), max: at(100) }
    }
}

impl std::fmt::Display for Distribution {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "p50 {:?}, p99 {:?}, max {:?}", self.p50, self.p99, self.max)
    }
}
