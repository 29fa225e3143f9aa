//! Rounds over processes that a test makes up.

use std::time::{Duration, SystemTime};

use hpgen_runtime::format::{Identity, Payload, Unwind};

use super::*;

/// A process that has images and patches.
#[derive(Clone)]
struct Made {
    pid: u32,
    started: u64,
    images: Vec<&'static str>,
    patches: Vec<PatchStatus>,
    refuses: Option<fn() -> ApplyError>,
    attempts: usize,
    attended: usize,
}

#[derive(Default)]
struct Processes(Vec<Made>);

impl Processes {
    fn start(&mut self, pid: u32, started: u64, images: &[&'static str]) -> &mut Made {
        self.0.retain(|process| process.pid != pid);
        let made =
            Made { pid, started, images: images.to_vec(), patches: vec![], refuses: None, attempts: 0, attended: 0 };
        self.0.push(made);
        self.0.last_mut().unwrap()
    }

    fn of(&mut self, pid: u32) -> &mut Made {
        self.0.iter_mut().find(|process| process.pid == pid).unwrap()
    }
}

impl World for Processes {
    fn find(&mut self, image: &str) -> Result<Vec<RunningProcess>, ProcessError> {
        let with = self.0.iter().filter(|process| process.images.contains(&image));
        Ok(with.map(|p| RunningProcess { pid: p.pid, image_name: p.images[0].into(), started: p.started }).collect())
    }

    fn status(&mut self, pid: u32) -> Result<Vec<PatchStatus>, ProcessError> {
        Ok(self.of(pid).patches.clone())
    }

    fn take_out(&mut self, pid: u32, patch_id: &str, _: &str) {
        self.of(pid).patches.retain(|patch| patch.patch_id != patch_id);
    }

    fn attend(&mut self, pid: u32, _: &str) {
        self.of(pid).attended += 1;
    }

    fn apply(&mut self, pid: u32, candidate: &Candidate) -> Result<(), ApplyError> {
        let process = self.of(pid);
        process.attempts += 1;
        if let Some(refuses) = process.refuses {
            return Err(refuses());
        }
        for patch in &mut process.patches {
            patch.state = PatchState::Replaced;
        }
        let images = candidate.payload.payloads.iter().map(|payload| payload.identity.image_name.clone());
        process.patches.extend(images.map(|image_name| PatchStatus {
            patch_id: candidate.seal.patch_id(),
            seal: candidate.seal,
            series: candidate.series(),
            state: PatchState::Applied,
            image_name,
            ..empty()
        }));
        Ok(())
    }
}

fn empty() -> PatchStatus {
    PatchStatus {
        patch_id: String::new(),
        seal: Seal([0; 32]),
        series: 0,
        state: PatchState::Prepared,
        sequence: 1,
        image_name: String::new(),
        image_base: 0,
        region_base: 0,
        region_size: 0,
        functions: vec![],
        applied_at: SystemTime::UNIX_EPOCH,
        stopped: Duration::ZERO,
        threads_stopped: 0,
        probation_until: None,
    }
}

fn candidate(number: u8, series: u32, images: &[&str]) -> Candidate {
    let payload = |image: &&str| Payload {
        identity: Identity {
            guid: [0; 16],
            age: 0,
            timestamp: 0,
            size_of_image: 0,
            entry_point: 0,
            image_base: 0,
            image_name: (*image).into(),
            series,
            stays: false,
        },
        segments: vec![],
        relocations: vec![],
        trampolines: vec![],
        functions: vec![],
        imports: vec![],
        unwind: Unwind::default(),
        variables: vec![],
        hooks: vec![],
        probation: None,
        assignments: vec![],
        bodies: vec![],
        initialisers: vec![],
    };
    let payload = PayloadFile { payloads: images.iter().map(payload).collect() };
    Candidate { name: format!("{number}.hpx"), payload, seal: Seal([number; 32]) }
}

fn told(news: &[News]) -> Vec<(u32, &str, &Known)> {
    news.iter().map(|news| (news.pair.pid, news.name.as_str(), &news.known)).collect()
}

#[test]
fn new_processes_get_the_payload_once() {
    let (mut memory, mut world) = (Memory::default(), Processes::default());
    let mut folder = [candidate(1, 1, &["a.exe"])];
    world.start(10, 1, &["a.exe"]);
    world.start(11, 1, &["b.exe"]);
    assert_eq!(told(&memory.round(&mut folder, &mut world)), [(10, "1.hpx", &Known::Applied)]);
    assert_eq!(memory.round(&mut folder, &mut world), []);
    world.start(12, 2, &["c.exe", "a.exe"]);
    assert_eq!(told(&memory.round(&mut folder, &mut world)), [(12, "1.hpx", &Known::Applied)]);
    // Another process under an id that was known.
    world.start(10, 3, &["a.exe"]);
    assert_eq!(told(&memory.round(&mut folder, &mut world)), [(10, "1.hpx", &Known::Applied)]);
    assert_eq!((world.of(10).attempts, world.of(11).attempts, world.of(12).attempts), (1, 0, 1));
}

#[test]
fn what_somebody_took_out_stays_out() {
    let (mut memory, mut world) = (Memory::default(), Processes::default());
    let mut folder = [candidate(1, 1, &["a.exe"])];
    world.start(10, 1, &["a.exe"]);
    memory.round(&mut folder, &mut world);
    world.of(10).patches.clear();
    assert_eq!(told(&memory.round(&mut folder, &mut world)), [(10, "1.hpx", &Known::TakenOut)]);
    assert_eq!(memory.round(&mut folder, &mut world), []);
    assert_eq!(world.of(10).attempts, 1);
}

#[test]
fn a_refusal_is_told_once_and_what_passes_is_tried_again() {
    let (mut memory, mut world) = (Memory::default(), Processes::default());
    let mut folder = [candidate(1, 1, &["a.exe"])];
    world.start(10, 1, &["a.exe"]).refuses = Some(|| ApplyError::DynamicCodeProhibited(10));
    world.start(11, 1, &["a.exe"]).refuses = Some(|| ProcessError::Locked(11).into());
    let news = memory.round(&mut folder, &mut world);
    assert!(matches!(told(&news)[..], [(10, _, Known::Refused(_)), (11, _, Known::Waiting(_))]), "{news:?}");
    assert_eq!(memory.round(&mut folder, &mut world), []);
    world.of(11).refuses = None;
    assert_eq!(told(&memory.round(&mut folder, &mut world)), [(11, "1.hpx", &Known::Applied)]);
    assert_eq!((world.of(10).attempts, world.of(11).attempts), (1, 3));
}

#[test]
fn of_a_series_the_last_counts() {
    let (mut memory, mut world) = (Memory::default(), Processes::default());
    world.start(10, 1, &["a.exe"]);
    let mut folder = vec![candidate(1, 1, &["a.exe"])];
    memory.round(&mut folder, &mut world);
    folder.push(candidate(2, 2, &["a.exe"]));
    assert_eq!(told(&memory.round(&mut folder, &mut world)), [(10, "2.hpx", &Known::Applied)]);
    assert_eq!(memory.round(&mut folder, &mut world), []);
    assert_eq!(world.of(10).attempts, 2);
}

#[test]
fn a_payload_for_several_images_waits_for_all() {
    let (mut memory, mut world) = (Memory::default(), Processes::default());
    let mut folder = [candidate(1, 1, &["a.exe", "b.dll"])];
    world.start(10, 1, &["a.exe"]);
    assert_eq!(memory.round(&mut folder, &mut world), []);
    world.of(10).images.push("b.dll");
    assert_eq!(told(&memory.round(&mut folder, &mut world)), [(10, "1.hpx", &Known::Applied)]);
    assert_eq!(world.of(10).attempts, 1);
}

#[test]
fn what_failed_its_probation_is_taken_out_everywhere_and_goes_nowhere_again() {
    let (mut memory, mut world) = (Memory::default(), Processes::default());
    let mut folder = [candidate(1, 1, &["a.exe"]), candidate(2, 2, &["a.exe"])];
    world.start(10, 1, &["a.exe"]);
    world.start(11, 1, &["a.exe"]);
    memory.round(&mut folder, &mut world);
    let id = Seal([2; 32]).patch_id();
    assert_eq!((world.of(10).attended, world.of(11).attended), (1, 1));
    let failed = Known::Failed("it crashed".into());
    assert_eq!(told(&[memory.fail(10, &id, "2.hpx", "it crashed")]), [(10, "2.hpx", &failed)]);
    world.0.remove(0);
    world.start(12, 2, &["a.exe"]);
    // The one before it in the series takes its place.
    let news = memory.round(&mut folder, &mut world);
    let first = (11, "1.hpx", &Known::Applied);
    assert_eq!(told(&news), [(11, "2.hpx", &failed), (12, "2.hpx", &failed), first, (12, "1.hpx", &Known::Applied)]);
    assert_eq!(memory.round(&mut folder, &mut world), []);
    assert!(world.of(11).patches.iter().all(|patch| patch.patch_id != id));
}

/// A watch that begins anew finds patches that are on probation.
#[test]
fn a_patch_on_probation_is_watched_again() {
    let (mut memory, mut world) = (Memory::default(), Processes::default());
    let mut folder = [candidate(1, 1, &["a.exe"])];
    world.start(10, 1, &["a.exe"]);
    memory.round(&mut folder, &mut world);
    memory.round(&mut folder, &mut world);
    assert_eq!(world.of(10).attended, 1, "it is not on probation any more");
    world.of(10).patches[0].probation_until = Some(SystemTime::now());
    Memory::default().round(&mut folder, &mut world);
    assert_eq!(world.of(10).attended, 2);
}
