//! The process that is patched, and what of it must be the same after an attempt that failed.

use std::collections::hash_map::DefaultHasher;
use std::hash::Hasher;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hpgen_runtime::Patcher;
use windows_sys::Win32::System::Memory::PAGE_EXECUTE_READ;
use windows_sys::Win32::System::Threading::{GetCurrentProcess, Sleep};

use super::{NEW, OLD, PATIENCE, VARIABLE};
use crate::answer::answer;
use crate::leaks::{allocations, open_handles, pages_of};
use crate::payloads::own_base;

const THREADS: usize = 4;
const EXIT_CODE: i32 = 7;
static STEPS: [AtomicU64; THREADS] = [const { AtomicU64::new(0) }; THREADS];

/// What must be the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// What the function gives for 1.
    pub value: u32,
    /// What the payload gives a value.
    pub variable: u32,
    /// Digest of all code of the image and of the protections of all of its pages.
    pub image: u64,
    pub allocations: usize,
    /// Those of the process, and of the one that patches.
    pub handles: usize,
}

/// The process.
pub struct Subject {
    child: Option<(Child, BufReader<ChildStdout>)>,
    pub patcher: Patcher,
}

impl Subject {
    pub fn own() -> Subject {
        work();
        Subject { child: None, patcher: Patcher::own() }
    }

    pub fn other() -> Subject {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let mut child = command.arg("target").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let patcher = Patcher::of_process(child.id());
        let mut subject = Subject { child: Some((child, output)), patcher };
        // Once it answers, all of its DLLs are there.
        subject.ask();
        subject
    }

    /// Process id of the other one.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or_else(std::process::id, |(child, _)| child.id())
    }

    pub fn state(&mut self) -> State {
        self.ask().0
    }

    /// The state once every thread has gone on.
    pub fn state_when_all_ran(&mut self) -> State {
        let before = self.ask().1;
        let begin = Instant::now();
        loop {
            let (state, now) = self.ask();
            if before.iter().zip(&now).all(|(before, now)| now > before) {
                return state;
            }
            assert!(begin.elapsed() < PATIENCE, "threads stand still: {before:?}, then {now:?}");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// The state, and how far each thread is.
    fn ask(&mut self) -> (State, [u64; THREADS]) {
        let Some((child, output)) = &mut self.child else {
            return parse(&describe());
        };
        writeln!(child.stdin.as_mut().unwrap(), "?").unwrap();
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let (state, steps) = parse(&line);
        (State { handles: state.handles + open_handles(), ..state }, steps)
    }

    pub fn quit(self) {
        let (mut child, _) = self.child.unwrap();
        writeln!(child.stdin.as_mut().unwrap(), "quit").unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(EXIT_CODE));
    }
}

/// Threads that call the function in bursts. If they did nothing else, one of them would almost always be in the way.
fn work() {
    const BURST: u32 = 100;
    for steps in &STEPS {
        thread::spawn(|| {
            loop {
                for _ in 0..BURST {
                    assert!([OLD, NEW].contains(&answer(1)));
                }
                steps.fetch_add(1, Ordering::Relaxed);
                // Not the standard library's sleep: it opens a timer each time, and the handles are counted.
                unsafe { Sleep(1) };
            }
        });
    }
}

/// Answers each line with its state.
pub fn target() {
    work();
    for line in std::io::stdin().lock().lines() {
        if line.unwrap() == "quit" {
            std::process::exit(EXIT_CODE);
        }
        println!("{}", describe());
        std::io::stdout().flush().unwrap();
    }
}

/// Of the own process. Not a part of its callers' frames: addresses in a patch's region that stay there would keep it in the process.
#[inline(never)]
fn describe() -> String {
    let pages = pages_of(unsafe { GetCurrentProcess() });
    let mut image = DefaultHasher::new();
    for info in pages.iter().filter(|info| info.AllocationBase as u64 == own_base()) {
        image.write_usize(info.BaseAddress as usize);
        image.write_usize(info.RegionSize);
        image.write_u32(info.Protect);
        if info.Protect == PAGE_EXECUTE_READ {
            image.write(unsafe { std::slice::from_raw_parts(info.BaseAddress as *const u8, info.RegionSize) });
        }
    }
    let (allocations, handles) = (allocations(&pages), open_handles());
    let variable = VARIABLE.load(Ordering::Relaxed);
    let steps = STEPS.each_ref().map(|steps| steps.load(Ordering::Relaxed).to_string()).join(" ");
    format!("{} {variable} {} {allocations} {handles} {steps}", answer(1), image.finish())
}

fn parse(line: &str) -> (State, [u64; THREADS]) {
    let mut words = line.split_whitespace().map(|word| word.parse::<u64>().unwrap());
    let mut number = || words.next().unwrap();
    let state = State {
        value: number() as u32,
        variable: number() as u32,
        image: number(),
        allocations: number() as usize,
        handles: number() as usize,
    };
    (state, [(); THREADS].map(|()| number()))
}
