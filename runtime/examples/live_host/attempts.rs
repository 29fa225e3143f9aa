//! Constructors that register a function for the end of the process, in payloads that do not go in at once.

use super::*;

/// Behind the new body: the constructor.
const CONSTRUCTOR: u32 = CODE + 16;

/// `live_spin` gives how often the constructor ran, which registers something as far as the loader knows.
fn payload() -> Payload {
    // mov eax, [rip + variable]; ret, then inc dword ptr [rip + variable]; ret
    let mut code = vec![0x8b, 0x05, 0, 0, 0, 0, 0xc3];
    code.resize((CONSTRUCTOR - CODE) as usize, 0xcc);
    code.extend([0xff, 0x05, 0, 0, 0, 0, 0xc3]);
    let mut payload = redirect(live_spin as *const () as usize, "live_spin", code);
    let to_variable =
        |place| Relocation { place, kind: RelocationKind::Rel32, space: Space::Region, target: VARIABLES, addend: -4 };
    payload.relocations = vec![to_variable(CODE + 2), to_variable(CONSTRUCTOR + 2)];
    payload.variables = vec![Variable { offset: VARIABLES, size: 4, name: "constructed".into() }];
    payload.initialisers =
        vec![Initialiser { function: Some(CONSTRUCTOR), variable: VARIABLES, checked: false, at_exit: true }];
    payload
}

/// However often it is tried, the constructor runs once and one region is kept; a patch that comes after a rollback has its own.
pub fn check() {
    static GO: AtomicU32 = AtomicU32::new(0);
    let call = || {
        let function: unsafe extern "C-unwind" fn(*const AtomicU32) = std::hint::black_box(live_spin);
        let function: unsafe extern "C-unwind" fn(*const AtomicU32) -> u32 = unsafe { std::mem::transmute(function) };
        unsafe { function(&GO) }
    };
    let states = || status_self().unwrap().iter().map(|patch| patch.state).collect::<Vec<_>>();
    let payload = payload();
    let spinning = thread::spawn(|| unsafe { live_spin(&GO) });
    thread::sleep(Duration::from_millis(50));
    for _ in 0..5 {
        let error = apply_to_self(&payload, &seal(6), &options(20)).unwrap_err();
        assert!(matches!(error, ApplyError::Stop(StopError::Busy { .. })), "{error}");
        assert_eq!(states(), [PatchState::Retired]);
    }
    // Another payload has variables of its own.
    apply_to_self(&payload, &seal(7), &options(20)).unwrap_err();
    assert_eq!(states(), [PatchState::Retired; 2]);
    GO.store(1, Ordering::SeqCst);
    spinning.join().unwrap();

    let applied = apply_to_self(&payload, &seal(6), &options(2000)).unwrap();
    assert_eq!(states(), [PatchState::Replaced, PatchState::Retired, PatchState::Applied]);
    assert_eq!(call(), 1, "the constructor ran once");
    applied.rollback().unwrap();
    let kept = |seal| status_self().unwrap().iter().filter(|patch| patch.seal == seal).count();
    while kept(seal(6)) > 1 {
        assert_eq!(states()[0], PatchState::Retired);
        rollback_self(None, &options(2000)).unwrap();
    }
    apply_to_self(&payload, &seal(6), &options(2000)).unwrap();
    assert_eq!(states(), [PatchState::Retired, PatchState::Retired, PatchState::Applied]);
    assert_eq!(call(), 1, "what was in use is not taken over");
    println!("constructors of payloads that go in later: all done");
}
