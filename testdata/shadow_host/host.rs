//! shadow_host: a Rust program with live objects that have no room for what a fix wants to know of them.
//!
//! ```text
//! shadow_host SECONDS [STOP_FILE]
//! ```
//!
//! It ends after SECONDS, or as soon as STOP_FILE exists. About every 20 ms it uses one of three lamps and prints a line, `used red` for
//! example; the new build counts, and prints `used red 1` the first time.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::fix;

/// An object of the old layout: no count.
pub struct Lamp {
    pub name: &'static str,
}

pub fn main() {
    let mut arguments = std::env::args().skip(1);
    let seconds = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(1);
    let stop_file = arguments.next();
    let lamps: Vec<Box<Lamp>> = ["red", "green", "blue"].map(|name| Box::new(Lamp { name })).into();
    let end = Instant::now() + Duration::from_secs(seconds);
    for lamp in lamps.iter().cycle() {
        if Instant::now() >= end || stop_file.as_ref().is_some_and(|file| Path::new(file).exists()) {
            break;
        }
        fix::use_lamp(lamp);
        std::thread::sleep(Duration::from_millis(20));
    }
    println!("done");
}
