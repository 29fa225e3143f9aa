//! A server that patches itself: as soon as the file named by its first argument is there, it takes it in; when it is gone, it takes it out.
//!
//! `server fix.hpx 500` works through 500 requests. Built with `--cfg fixed` it is the fixed build.
#![allow(unexpected_cfgs, reason = "the test builds it both ways")]

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use hpgen_runtime::{Applied, Patcher, Policy};

#[inline(never)]
fn discount(request: u32) -> u32 {
    if cfg!(fixed) && request.is_multiple_of(3) { 50 } else { request % 7 }
}

/// All that a server needs.
fn look_for_patch(applied: &mut Option<Applied>, file: &Path) -> Result<(), Box<dyn std::error::Error>> {
    match applied.take() {
        None if file.exists() => {
            // A server in earnest names the keys that it trusts.
            let policy = Policy { allow_unsigned: true, ..Policy::default() };
            let patch = applied.insert(Patcher::own().apply(&std::fs::read(file)?, &policy)?);
            println!("apply: {} functions", patch.status()?.iter().map(|image| image.functions.len()).sum::<usize>());
        }
        Some(patch) if !file.exists() => println!("roll back: {} functions", patch.rollback()?.functions),
        unchanged => *applied = unchanged,
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, file, requests] = &arguments[..] else { return Err("usage: server FILE REQUESTS".into()) };
    let mut applied = None;
    for request in 0..requests.parse()? {
        look_for_patch(&mut applied, file.as_ref())?;
        println!("request {request}: {} percent", discount(request));
        std::io::stdout().flush()?;
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
