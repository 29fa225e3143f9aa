//! What the system guards a process with that new code has to do with, and what follows for a payload.
//!
//! * **Control Flow Guard**: indirect calls only lead to registered targets. Pages that `VirtualProtect` makes executable are registered as a whole, so calls of new
//!   functions by pointers pass; pointers to old functions stay those of their old entries. (`SetProcessValidCallTargets` could register less, but only in memory that was
//!   allocated executable, which ours never is while it is written.)
//! * **Arbitrary Code Guard**: the process gets no new code at all.
//! * **Shadow stacks** (CET): entries are redirected by jumps, no return address is ever rewritten and no thread's context is set, so calls and returns still match.
//!   Where the system checks the places at which execution goes on after an exception (`SetContextIpValidation`), it refuses those in memory that is no image's
//!   and was not registered: code that handles exceptions stays out then.

use crate::format::{Payload, RelocationKind, Space};

/// What a process is guarded with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mitigations {
    /// Arbitrary Code Guard (`ProcessDynamicCodePolicy`).
    pub prohibits_dynamic_code: bool,
    /// `ProcessControlFlowGuardPolicy`
    pub control_flow_guard: bool,
    /// `ProcessUserShadowStackPolicy`
    pub shadow_stack: bool,
    /// The same, with the places checked where execution goes on after an exception, in code outside of images too.
    pub checks_continuations: bool,
}

/// Why a payload stays out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(windows), allow(dead_code, reason = "only the loader asks"))]
pub(crate) enum Objection {
    DynamicCode,
    Handlers,
}

#[cfg_attr(not(windows), allow(dead_code, reason = "only the loader asks"))]
impl Mitigations {
    /// From the flags of the three policies.
    pub(crate) fn of(dynamic_code: u32, control_flow_guard: u32, shadow_stack: u32) -> Mitigations {
        const ENABLED: u32 = 1;
        const SET_CONTEXT_IP_VALIDATION: u32 = 1 << 2;
        const RELAXED: u32 = 1 << 9;
        Mitigations {
            prohibits_dynamic_code: dynamic_code & ENABLED != 0,
            control_flow_guard: control_flow_guard & ENABLED != 0,
            shadow_stack: shadow_stack & ENABLED != 0,
            checks_continuations: shadow_stack & SET_CONTEXT_IP_VALIDATION != 0 && shadow_stack & RELAXED == 0,
        }
    }

    /// What speaks against a payload's code.
    pub(crate) fn objection(&self, payload: &Payload) -> Option<Objection> {
        if self.prohibits_dynamic_code {
            return Some(Objection::DynamicCode);
        }
        (self.checks_continuations && has_handlers(payload)).then_some(Objection::Handlers)
    }
}

/// Whether a function of the payload handles exceptions. One whose unwind data cannot be found counts.
#[cfg_attr(not(windows), allow(dead_code, reason = "only the loader asks"))]
fn has_handlers(payload: &Payload) -> bool {
    const ENTRY: u32 = 12;
    /// `UNW_FLAG_EHANDLER` and `UNW_FLAG_UHANDLER`, above the version.
    const HANDLERS: u8 = 3 << 3;
    let flags = |number: u32| {
        let place = payload.unwind.table.checked_add(number.checked_mul(ENTRY)?)?.checked_add(8)?;
        let index = payload.relocations.binary_search_by_key(&place, |relocation| relocation.place).ok()?;
        let info = payload.relocations.get(index)?;
        if info.kind != RelocationKind::Rva32 || info.space != Space::Region {
            return None;
        }
        let offset = info.target.checked_add_signed(info.addend)?;
        let segment = payload.segments.iter().rev().find(|segment| segment.offset <= offset)?;
        segment.content.get((offset - segment.offset) as usize).copied()
    };
    (0..payload.unwind.count).any(|number| flags(number).is_none_or(|flags| flags & HANDLERS != 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{Protection, Relocation, Segment, Unwind};

    /// One function with a frame, whose unwind record begins with this byte.
    fn payload(flags: u8) -> Payload {
        let mut payload = crate::link::tests::sample();
        let mut content = vec![0; 32];
        content[16] = flags;
        payload.segments = vec![Segment { offset: 0x2000, size: 0x1000, protection: Protection::Read, content }];
        let rva32 =
            |place, target| Relocation { place, kind: RelocationKind::Rva32, space: Space::Region, target, addend: 0 };
        payload.relocations = vec![rva32(0x2000, 0x1000), rva32(0x2004, 0x1010), rva32(0x2008, 0x2010)];
        payload.unwind = Unwind { table: 0x2000, count: 1 };
        payload
    }

    #[test]
    fn dynamic_code_is_refused_whatever_it_is() {
        let guarded = Mitigations::of(1, 0, 0);
        assert_eq!(guarded.objection(&payload(1)), Some(Objection::DynamicCode));
        // `AllowThreadOptOut` and the auditing form prohibit nothing.
        assert_eq!(Mitigations::of(0b1010, 0, 0).objection(&payload(1)), None);
    }

    #[test]
    fn control_flow_guard_and_shadow_stacks_alone_are_no_reason() {
        for mitigations in
            [Mitigations::of(0, 7, 0), Mitigations::of(0, 1, 1), Mitigations::of(0, 1, 1 | 1 << 2 | 1 << 9)]
        {
            assert_eq!(mitigations.objection(&payload(1 | 3 << 3)), None, "{mitigations:?}");
        }
    }

    #[test]
    fn handlers_are_refused_where_continuations_are_checked() {
        let strict = Mitigations::of(0, 0, 1 | 1 << 2);
        assert!(strict.shadow_stack && strict.checks_continuations);
        // A frame alone, a chained record.
        for flags in [1, 1 | 4 << 3] {
            assert_eq!(strict.objection(&payload(flags)), None, "{flags:#x}");
        }
        for flags in [1 | 1 << 3, 1 | 2 << 3, 2 | 3 << 3] {
            assert_eq!(strict.objection(&payload(flags)), Some(Objection::Handlers), "{flags:#x}");
        }
        let mut lost = payload(1);
        lost.relocations.pop();
        assert_eq!(strict.objection(&lost), Some(Objection::Handlers), "nobody knows");
    }
}
