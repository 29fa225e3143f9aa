//! Damaged images and PDBs: whatever stands in them, loading, comparing, planning and building end with a result or an error,
//! soon and without using up memory. Overflow checks are on in test builds, so that unchecked arithmetic shows as well.
//!
//! `HPGEN_MUTATIONS=100000 HPGEN_SEED=7 cargo test --release -p hpgen-emit --test mutations` looks further.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;
use hpgen_diff::change_set::ChangeSet;
use hpgen_diff::compare::Comparison;
use hpgen_diff::image::Image;
use hpgen_diff::program::Program;
use hpgen_emit::build;
use hpgen_emit::plan::{Include, Plan};

/// Fixtures that together have every kind of table and reference.
const FIXTURES: [&str; 8] =
    ["callee", "new_function", "new_global", "biased_base", "struct_layout", "folded", "static_names", "rodata"];
const FILES: [&str; 4] = ["old.exe", "old.pdb", "new.exe", "new.pdb"];

/// The fixtures have a hundred kilobytes; nothing in them can be worth more memory than this.
const MEMORY: usize = 512 << 20;
const TIME: Duration = Duration::from_secs(30);

/// Refuses what would exceed [`MEMORY`], which ends the test.
struct Limited;

static USED: AtomicUsize = AtomicUsize::new(0);
/// The round that runs; what it is needed for are tests that do not end as tests do.
static ROUND: AtomicU64 = AtomicU64::new(0);

// SAFETY: all memory comes from and goes back to the system's allocator, with the layout it was asked for.
unsafe impl GlobalAlloc for Limited {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let used = USED.fetch_add(layout.size(), Ordering::Relaxed);
        if used.saturating_add(layout.size()) > MEMORY {
            USED.fetch_sub(layout.size(), Ordering::Relaxed);
            eprintln!("round {}: {} bytes more than {used}", ROUND.load(Ordering::Relaxed), layout.size());
            return std::ptr::null_mut();
        }
        // SAFETY: the caller keeps the contract of `alloc`, which is that of the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        USED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the memory came from `alloc` above with the same layout.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Limited = Limited;

/// How far the mutants of one run came: a test whose mutants all fail at the first check would prove little.
#[derive(Debug, Default)]
struct Reached {
    refused: usize,
    compared: usize,
    built: usize,
}

#[test]
fn damaged_files_are_refused_or_compared() {
    let setting = |name: &str| std::env::var(name).ok().and_then(|value| value.parse().ok());
    let (rounds, seed): (u64, u64) = (setting("HPGEN_MUTATIONS").unwrap_or(1200), setting("HPGEN_SEED").unwrap_or(1));
    let folder = tempfile::tempdir().unwrap();
    watch_over();
    let mut reached = Reached::default();
    for round in 0..rounds {
        let mut rng = Rng::with_seed(seed ^ round.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let fixture = FIXTURES[rng.usize(..FIXTURES.len())];
        let victim = FILES[rng.usize(..FILES.len())];
        for file in FILES {
            let source = fixtures().join(fixture).join(file);
            let mut content = fs::read(&source).unwrap();
            if file == victim {
                mutate(&mut rng, &mut content, &interesting(&source));
            }
            fs::write(folder.path().join(file), content).unwrap();
        }
        let place = Place { round, fixture, victim };
        ROUND.store(round, Ordering::Relaxed);
        let start = Instant::now();
        compare(folder.path(), &mut rng, &mut reached);
        assert!(start.elapsed() < TIME, "took {:?}", start.elapsed());
        drop(place);
    }
    println!("{rounds} rounds: {reached:?}");
    let enough = rounds as usize / 20;
    assert!(reached.refused > enough && reached.compared > enough && reached.built > enough, "{reached:?}");
}

/// `LF_FIELDLIST` records that are continued (`LF_INDEX`) by themselves: whatever walks them must end.
#[test]
fn field_lists_that_lead_back_to_themselves() {
    const LF_FIELDLIST: [u8; 2] = [0x03, 0x12];
    const LF_INDEX: [u8; 4] = [0x04, 0x14, 0, 0];
    let source = fixtures().join("struct_layout");
    let (image, pdb) = (source.join("old.exe"), fs::read(source.join("old.pdb")).unwrap());
    let lists: Vec<usize> = (0..pdb.len() - 12)
        .filter(|at| pdb[at + 2..at + 4] == LF_FIELDLIST && pdb[*at] >= 10 && pdb[at + 1] == 0)
        .collect();
    assert!(!lists.is_empty(), "the fixture has a type with members");
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut loaded = 0;
    // Which index each record has is not known: every one is tried.
    for index in 0x1000u32..0x1080 {
        let mut content = pdb.clone();
        for at in &lists {
            content[at + 4..at + 8].copy_from_slice(&LF_INDEX);
            content[at + 8..at + 12].copy_from_slice(&index.to_le_bytes());
        }
        fs::write(file.path(), content).unwrap();
        loaded += usize::from(Program::load(&image, Some(file.path())).is_ok());
    }
    assert!(loaded > 0, "all of them were refused before their types were read");
}

/// Says in which round a panic happened.
struct Place {
    round: u64,
    fixture: &'static str,
    victim: &'static str,
}

impl Drop for Place {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("in round {} with {} of {}", self.round, self.victim, self.fixture);
        }
    }
}

/// Ends the process when one round hangs.
fn watch_over() {
    std::thread::spawn(|| {
        loop {
            let before = ROUND.load(Ordering::Relaxed);
            std::thread::sleep(2 * TIME);
            if ROUND.load(Ordering::Relaxed) == before {
                eprintln!("round {before} hangs");
                std::process::abort();
            }
        }
    });
}

fn compare(folder: &Path, rng: &mut Rng, reached: &mut Reached) {
    let load = |image: &str| Program::load(&folder.join(image), None);
    let (old, new) = match (load("old.exe"), load("new.exe")) {
        (Ok(old), Ok(new)) => (old, new),
        (old, new) => {
            for error in [old.err(), new.err()].into_iter().flatten() {
                let text = error.to_string();
                assert!(text.contains("old.") || text.contains("new."), "names no file: {text}");
            }
            reached.refused += 1;
            return;
        }
    };
    let comparison = Comparison::of(&old, &new);
    let changes = ChangeSet::of(&old, &new, &comparison);
    let include = Include { all: rng.bool(), ..Include::default() };
    let plan = Plan::of(&old, &new, &comparison, &changes, &include);
    reached.compared += 1;
    if plan.refusals.is_empty()
        && !plan.functions.is_empty()
        && let Ok(payload) = build::payload(&old, &new, &plan)
    {
        // What does not read back is an error here; it must not be written.
        let _ = build::file(&payload.into());
        reached.built += 1;
    }
}

/// Parts of a file that decide more than others: headers, directories, the function's code.
fn interesting(source: &Path) -> Vec<(usize, usize)> {
    if source.extension().is_some_and(|extension| extension == "pdb") {
        // Superblock and first streams; the rest is found by chance.
        return vec![(0, 64)];
    }
    let image = Image::open(source).unwrap();
    let len = image.file_size() as usize;
    vec![(0x3c, 0x40), (0x78, 0x400), (0x400, 0x500), (0x400, len), (0x600, len)]
}

fn mutate(rng: &mut Rng, content: &mut [u8], interesting: &[(usize, usize)]) {
    let len = content.len();
    for _ in 0..=rng.usize(..6) {
        let (start, end) = match rng.bool() {
            true => interesting[rng.usize(..interesting.len())],
            false => (0, len),
        };
        let at = rng.usize(start..end.min(len));
        let value: [u8; 4] = match rng.u8(..8) {
            0 => [0; 4],
            1 => [0xff; 4],
            2 => [0xff, 0xff, 0xff, 0x7f],
            3 => [0, 0, 0, 0x80],
            // A number of the size that offsets and RVAs have.
            4 | 5 => (rng.u32(..0x6000)).to_le_bytes(),
            _ => rng.u32(..).to_le_bytes(),
        };
        match rng.u8(..10) {
            0..=3 => content[at] ^= 1 << rng.u8(..8),
            4 | 5 => content[at] = value[0],
            // Fields are aligned.
            6..=8 => {
                let at = at & !3;
                if let Some(field) = content.get_mut(at..at + 4) {
                    field.copy_from_slice(&value);
                }
            }
            _ => {
                let (size, from) = (rng.usize(1..64), rng.usize(..len));
                let source = content[from..(from + size).min(len)].to_vec();
                let end = (at + source.len()).min(len);
                content[at..end].copy_from_slice(&source[..end - at]);
            }
        }
    }
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/fixtures")
}
