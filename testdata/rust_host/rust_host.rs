//! rust_host: a long-running Rust program for the target `x86_64-pc-windows-msvc`, for hpgen to compare and to patch.
//!
//! ```text
//! rust_host SECONDS [STOP_FILE]
//! ```
//!
//! It ends after SECONDS, or as soon as STOP_FILE exists, with exit code 0 (2 for wrong usage). About every 20 ms it does a step
//! and prints one line:
//!
//! ```text
//! seq N sum S words W panics P text T
//! ```
//!
//! * N: 1, 2, 3, ... without a gap
//! * S: a checksum over all steps so far: collections, trait objects, closures, generics
//! * W: how many different words were seen
//! * P: panics caught so far
//! * T: what formatting gave for this step, without spaces
//!
//! The last line is `done N S`. The values depend on N alone: two runs print the same lines.

mod market;
mod words;

use std::cell::{Cell, RefCell};
use std::io::Write as _;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use market::Market;
use words::Words;

thread_local! {
    static PANICS: Cell<u32> = const { Cell::new(0) };
    static MESSAGES: RefCell<Vec<String>> = RefCell::new(vec!["none".to_owned()]);
}

static TOTAL: Mutex<u64> = Mutex::new(1);

/// Mixes one value into a checksum.
fn mix(sum: u64, value: u64) -> u64 {
    (sum.rotate_left(7) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Counts when it is dropped, by a panic on its way too.
struct Guard<'a>(&'a Cell<u32>);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

/// Does what may panic, and gives a checksum of how it went.
fn risky(step: u64, dropped: &Cell<u32>) -> u64 {
    let result = panic::catch_unwind(AssertUnwindSafe(|| {
        let _guard = Guard(dropped);
        let items: Vec<u64> = (0..step % 5).map(|i| i * i).collect();
        match step % 4 {
            0 => items[step as usize % 7],
            1 => items.iter().sum::<u64>() / (step % 3),
            2 => words::parse(if step.is_multiple_of(3) { "17" } else { "x17" }).unwrap_or_else(|e| e.code()),
            _ => panic!("step {step} has no number"),
        }
    }));
    match result {
        Ok(value) => value,
        Err(payload) => {
            PANICS.set(PANICS.get() + 1);
            let text = payload
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                .unwrap_or_default();
            let sum = text.bytes().fold(0, |sum, byte| mix(sum, byte.into()));
            MESSAGES.with_borrow_mut(|messages| messages.push(text));
            sum
        }
    }
}

/// Calls what it is given for three numbers.
fn each<F: FnMut(u64) -> u64>(mut function: F, start: u64) -> u64 {
    (start..start + 3).fold(0, |sum, i| mix(sum, function(i)))
}

/// One step; gives its checksum and its formatted text.
fn step(number: u64, market: &mut Market, words: &mut Words, dropped: &Cell<u32>) -> (u64, String) {
    let mut calls = 0;
    let sum = each(
        |i| {
            calls += 1;
            market.trade(i).wrapping_add(calls)
        },
        number,
    );
    let boxed: Vec<Box<dyn Fn(u64) -> u64>> = vec![
        Box::new(|x| x.wrapping_add(1)),
        Box::new(move |x| x.wrapping_mul(number)),
        Box::new(|x| x.count_ones().into()),
    ];
    let sum = boxed.iter().fold(sum, |sum, function| mix(sum, function(sum)));
    words.add(&format!("word {} and {:?} or {:>5.2}", number % 11, market.best(), number as f64 / 8.0));
    let sum = mix(sum, risky(number, dropped));
    let text = format!("{:#06x}/{:?}/{}", number, words.longest(), MESSAGES.with_borrow(|messages| messages.len()));
    (mix(sum, words.sum()), text.replace(' ', "_"))
}

/// Steps until the time is over or the file appears.
fn run(seconds: u64, stop_file: Option<&str>) -> std::io::Result<()> {
    let (mut market, mut words, dropped) = (Market::new(), Words::default(), Cell::new(0));
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut number = 0;
    while Instant::now() < end && !stop_file.is_some_and(|file| Path::new(file).exists()) {
        number += 1;
        let (sum, text) = step(number, &mut market, &mut words, &dropped);
        let mut out = std::io::stdout().lock();
        let mut total = TOTAL.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        *total = mix(*total, sum.wrapping_add(dropped.get().into()));
        writeln!(out, "seq {number} sum {total} words {} panics {} text {text}", words.count(), PANICS.get())?;
        out.flush()?;
        drop(total);
        thread::sleep(Duration::from_millis(20));
    }
    let total = TOTAL.lock().map_or(0, |total| *total);
    println!("done {number} {total}");
    Ok(())
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(Ok(seconds)) = arguments.first().map(|text| text.parse()) else {
        eprintln!("usage: rust_host SECONDS [STOP_FILE]");
        return ExitCode::from(2);
    };
    // Panics are part of the program; nobody wants to read of them.
    panic::set_hook(Box::new(|_| {}));
    match run(seconds, arguments.get(1).map(String::as_str)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rust_host: {error}");
            ExitCode::FAILURE
        }
    }
}
