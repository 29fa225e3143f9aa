//! The checks.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hpgen_runtime::format::*;
use hpgen_runtime::*;
use windows_sys::Win32::Foundation::HANDLE;
use windows_sys::Win32::System::Diagnostics::Debug::ReadProcessMemory;
use windows_sys::Win32::System::Memory::PAGE_EXECUTE_READ;
use windows_sys::Win32::System::Threading::*;

use crate::leaks::{allocations, handles_of, pages_of};
use crate::payloads::*;

const THREADS: usize = 4;
static STEPS: [AtomicU64; THREADS] = [const { AtomicU64::new(0) }; THREADS];
static VARIABLE: AtomicU32 = AtomicU32::new(0x5eed);

core::arch::global_asm!(
    ".text",
    ".globl fault_answer",
    "fault_answer:", // fn(u32) -> u32: x + 1
    "lea eax, [rcx + 1]",
    "nop",
    "nop",
    "nop",
    "nop",
    "nop",
    "ret",
);

unsafe extern "C" {
    fn fault_answer(x: u32) -> u32;
}

fn answer(x: u32) -> u32 {
    let call: unsafe extern "C" fn(u32) -> u32 = std::hint::black_box(fault_answer);
    unsafe { call(x) }
}

/// A payload that needs everything: memory, unwind data, an import, a hook, a variable that gets a value.
fn payload() -> PayloadFile {
    // sub rsp, 40; lea eax, [rcx + 4]; add rsp, 40; ret. Behind it the hook: xor eax, eax; ret
    let code = vec![0x48, 0x83, 0xec, 0x28, 0x8d, 0x41, 4, 0x48, 0x83, 0xc4, 0x28, 0xc3];
    let hook = CODE + code.len() as u32;
    let mut payload = redirect(fault_answer as *const () as usize, "fault_answer", code);
    with_frame(&mut payload);
    payload.segments[0].content.extend([0x31, 0xc0, 0xc3]);
    payload.imports = vec![Import {
        slot: CONSTANTS + 0x30,
        dll: "kernel32.dll".into(),
        symbol: ImportSymbol::Name("GetTickCount".into()),
    }];
    payload.hooks = vec![Hook { kind: HookKind::PreApply, function: hook }];
    payload.segments[1].content[0x20..0x24].copy_from_slice(&0xf00d_u32.to_le_bytes());
    payload.assignments = vec![Assignment { rva: rva(&raw const VARIABLE as usize), value: CONSTANTS + 0x20, size: 4 }];
    payload.into()
}

pub fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[1..] {
        ["self", steps, only @ ..] => check(&mut Subject::own(), steps.parse().unwrap(), only),
        ["remote", steps, only @ ..] => {
            let mut subject = Subject::other();
            check(&mut subject, steps.parse().unwrap(), only);
            subject.quit();
        }
        ["target"] => target(),
        _ => panic!("usage: see the source"),
    }
}

fn work() {
    for steps in &STEPS {
        thread::spawn(|| {
            loop {
                assert!([2, 5].contains(&answer(1)));
                steps.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
}

/// Answers each line with its process id, its function's value, its variable, and how far each thread is.
fn target() {
    work();
    for line in std::io::stdin().lock().lines() {
        if line.unwrap() == "quit" {
            std::process::exit(7);
        }
        let steps = STEPS.each_ref().map(|steps| steps.load(Ordering::Relaxed).to_string()).join(" ");
        println!("{} {} {} {steps}", std::process::id(), answer(1), VARIABLE.load(Ordering::Relaxed));
        std::io::stdout().flush().unwrap();
    }
}

/// The process that is patched.
struct Subject {
    child: Option<(Child, BufReader<std::process::ChildStdout>)>,
    pid: u32,
    handle: HANDLE,
    patcher: Patcher,
}

/// What must be the same after an attempt that failed.
#[derive(PartialEq, Eq)]
struct State {
    code: Vec<u8>,
    protections: Vec<(u64, usize, u32)>,
    variable: u32,
    value: u32,
    allocations: usize,
    handles: (usize, usize),
}

impl State {
    fn differences(&self, other: &State) -> String {
        let mut text = String::new();
        for (name, same) in [
            ("code", self.code == other.code),
            ("protections", self.protections == other.protections),
            ("variable", self.variable == other.variable),
            ("value", self.value == other.value),
        ] {
            if !same {
                text += &format!("{name} ");
            }
        }
        if (self.allocations, self.handles) != (other.allocations, other.handles) {
            let State { allocations, handles, .. } = self;
            text += &format!("{allocations} allocations, {handles:?} handles before, ");
            text += &format!("{}, {:?} after", other.allocations, other.handles);
        }
        text
    }
}

impl Subject {
    fn own() -> Subject {
        work();
        let (handle, pid) = unsafe { (GetCurrentProcess(), std::process::id()) };
        Subject { child: None, pid, handle, patcher: Patcher::own() }
    }

    fn other() -> Subject {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let mut child = command.arg("target").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let handle = std::os::windows::io::AsRawHandle::as_raw_handle(&child);
        let mut subject = Subject { child: Some((child, output)), pid: 0, handle, patcher: Patcher::own() };
        subject.pid = subject.ask().0;
        subject.patcher = Patcher::of_process(subject.pid);
        subject
    }

    /// Process id, function's value, variable, steps of the threads.
    fn ask(&mut self) -> (u32, u32, u32, Vec<u64>) {
        let Some((child, output)) = &mut self.child else {
            let steps = STEPS.each_ref().map(|steps| steps.load(Ordering::Relaxed)).to_vec();
            return (self.pid, answer(1), VARIABLE.load(Ordering::Relaxed), steps);
        };
        writeln!(child.stdin.as_mut().unwrap(), "?").unwrap();
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let mut words = line.split_whitespace().map(|word| word.parse::<u64>().unwrap());
        let mut number = || words.next().unwrap() as u32;
        let (pid, value, variable) = (number(), number(), number());
        (pid, value, variable, words.collect())
    }

    fn state(&mut self) -> State {
        let (_, value, variable, _) = self.ask();
        let (code, protections) = self.code();
        let handles = (handles_of(self.pid), handles_of(std::process::id()));
        State { code, protections, variable, value, allocations: allocations(&pages_of(self.handle)), handles }
    }

    /// All of the image that is code, and the protections of its pages.
    fn code(&self) -> (Vec<u8>, Vec<(u64, usize, u32)>) {
        let base = own_base();
        let (mut code, mut protections) = (Vec::new(), Vec::new());
        for info in pages_of(self.handle).iter().filter(|info| info.AllocationBase as u64 == base) {
            protections.push((info.BaseAddress as u64, info.RegionSize, info.Protect));
            if info.Protect == PAGE_EXECUTE_READ {
                let start = code.len();
                code.resize(start + info.RegionSize, 0);
                let place = code[start..].as_mut_ptr().cast();
                let done = unsafe {
                    ReadProcessMemory(self.handle, info.BaseAddress, place, info.RegionSize, std::ptr::null_mut())
                };
                assert_ne!(done, 0);
            }
        }
        (code, protections)
    }

    /// Every thread goes on.
    fn must_run(&mut self) {
        let before = self.ask().3;
        let begin = Instant::now();
        loop {
            let now = self.ask().3;
            if before.iter().zip(&now).all(|(before, now)| now > before) {
                return;
            }
            assert!(begin.elapsed() < Duration::from_secs(20), "threads stand still: {before:?}, then {now:?}");
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn apply(&self) -> Result<Applied, ApplyError> {
        self.patcher.apply_accepted(&Accepted { payload: payload(), seal: seal(1), signer: None })
    }

    /// Takes out what is in, also memory that was kept.
    fn clean(&self) {
        let begin = Instant::now();
        while !self.patcher.status().unwrap().is_empty() {
            let _ = self.patcher.rollback(None);
            assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", self.patcher.status());
        }
    }

    fn quit(self) {
        let (mut child, _) = self.child.unwrap();
        writeln!(child.stdin.as_mut().unwrap(), "quit").unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(7));
    }
}

fn check(subject: &mut Subject, steps: u32, only: &[&str]) {
    for _ in 0..5 {
        subject.apply().unwrap();
        subject.clean();
    }
    let before = settled(subject);
    for call in fault::CALLS.into_iter().filter(|call| only.is_empty() || only.contains(call)) {
        let (mut applies, mut rollbacks) = (0, 0);
        let mut index = 0;
        while apply_with_fault(subject, call, index, &before) {
            applies += 1;
            index += (index / steps.max(1)).max(1);
        }
        index = 0;
        while rollback_with_fault(subject, call, index, &before) {
            rollbacks += 1;
            index += (index / steps.max(1)).max(1);
        }
        println!("{call}: {applies} failed in applies, {rollbacks} in rollbacks");
    }
    println!("faults: all done");
}

/// The state once nothing changes by itself any more.
fn settled(subject: &mut Subject) -> State {
    let mut last = subject.state();
    for _ in 0..50 {
        let next = subject.state();
        if next == last {
            return last;
        }
        last = next;
    }
    panic!("the process does not come to rest: {}", last.differences(&subject.state()));
}

/// Whether the call was made at all.
fn apply_with_fault(subject: &mut Subject, call: &str, index: u32, before: &State) -> bool {
    fault::arm(call, index);
    let result = subject.apply();
    let reached = fault::reached();
    let what = format!("{call} {index}: {:?}", result.as_ref().map(drop));
    subject.must_run();
    match result {
        // What failed was something that can be done without, or done again.
        Ok(applied) => {
            assert_eq!(subject.ask().1, 5, "{what}");
            drop(applied);
        }
        Err(_) => {
            assert!(reached, "nothing failed, but {what}");
            must_be(subject, before, &what);
            subject.apply().unwrap();
            assert_eq!(subject.ask().1, 5, "{what}");
        }
    }
    subject.clean();
    must_be(subject, before, &what);
    reached
}

/// The same when a patch is taken out: it is in, or out.
fn rollback_with_fault(subject: &mut Subject, call: &str, index: u32, before: &State) -> bool {
    subject.apply().unwrap();
    let (code, protections) = subject.code();
    fault::arm(call, index);
    let result = subject.patcher.rollback(None);
    let reached = fault::reached();
    let what = format!("rollback, {call} {index}: {result:?}");
    subject.must_run();
    if result.is_ok() {
        assert_eq!(subject.ask().1, 2, "{what}");
        assert!(subject.code() == (before.code.clone(), before.protections.clone()), "{what}");
    } else {
        assert!(reached, "nothing failed, but {what}");
        assert_eq!(subject.ask().1, 5, "{what}");
        assert!(subject.code() == (code, protections), "{what}");
    }
    subject.clean();
    must_be(subject, before, &what);
    reached
}

fn must_be(subject: &mut Subject, before: &State, what: &str) {
    let now = subject.state();
    assert!(now == *before, "{what}: {}", before.differences(&now));
}
