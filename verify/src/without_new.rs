//! What can be proven of a payload without the build that it was made from: that it fits the old image, that it cannot crash it by leading
//! nowhere, and that nothing but its entries changes. Whether it *means* what the fix means takes the new build.

use std::collections::BTreeSet;

use hpgen_diff::compare::Comparison;
use hpgen_diff::program::{Location, Program};
use hpgen_diff::rva::Rva;
use hpgen_runtime::format::{Payload, Protection, RelocationKind, Space};
use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register};

use crate::bodies::Pieces;
use crate::facts::Facts;
use crate::placement;
use crate::process::{Place, Process};
use crate::report::{Counts, Finding, References, Report};
use crate::throws;
use crate::trampolines::{self, NamedPlaces};
use crate::unwind::FunctionTable;

/// What only the new build can tell.
pub(crate) const UNCHECKED: [&str; 4] = [
    "whether the new code is that of the fixed build, and whether all of the fix is in the payload",
    "which object each reference should lead to; that it leads to one is checked",
    "what constants, variables and exception tables of the payload hold",
    "whether the unwind codes describe their functions",
];

/// Looks at a payload with the old image alone.
pub(crate) fn verify(payload: &Payload, old: &Program) -> Report {
    // The old build stands for the new one where something is asked that only concerns the old one.
    let itself = Comparison::of(old, old);
    let facts = Facts::of(payload, old, old, &itself);
    let named = NamedPlaces::of(old);
    let pieces = Pieces::of(old);
    let mut report = Report::new(payload, &old.image);
    report.unchecked = UNCHECKED.map(str::to_owned).to_vec();
    report.findings.extend(facts.identity_findings());
    for placement in placement::placements(&old.image, payload) {
        match Process::load(&facts, placement) {
            Ok(process) => {
                let (starts, references) = (instruction_starts(payload, &process), References::default());
                let mut look = Look { facts: &facts, process: &process, starts, references, findings: Vec::new() };
                look.findings.extend(trampolines::look(&facts, &process, &named, &pieces));
                look.records();
                look.relocations();
                payload.functions.iter().for_each(|function| look.code(function.offset, function.size, &function.name));
                look.throws();
                let unwind_records = look.unwind();
                report.counts.merge(Counts {
                    functions: payload.functions.len(),
                    references: look.references,
                    unwind_records,
                    ..Counts::default()
                });
                report.findings.append(&mut look.findings);
                report.placements.push(placement);
            }
            Err(problem) => {
                let expected = "a payload that links at any address";
                report.findings.push(Finding::of_payload("does-not-link", expected, problem));
            }
        }
    }
    report.tidy();
    report
}

/// One process.
struct Look<'a> {
    facts: &'a Facts<'a>,
    process: &'a Process,
    /// Of all functions of the payload: a cold part comes back to the middle of another one.
    starts: BTreeSet<u64>,
    references: References,
    findings: Vec<Finding>,
}

impl Look<'_> {
    fn finding(&mut self, code: &'static str, at: Option<(&str, u32)>, expected: &str, found: String) {
        self.findings.push(Finding {
            code,
            function: at.map(|(function, _)| function.to_owned()),
            offset: at.map(|(_, offset)| offset),
            instruction: None,
            expected: expected.to_owned(),
            found,
        });
    }

    /// What the payload lists is where it can be.
    fn records(&mut self) {
        let Facts { payload, old, functions_at, .. } = self.facts;
        let mut parts: Vec<(u32, u32, Protection, String)> = Vec::new();
        let functions = payload.functions.iter();
        parts.extend(functions.map(|f| (f.offset, f.size, Protection::ReadExecute, f.name.clone())));
        parts.extend(payload.variables.iter().map(|v| (v.offset, v.size, Protection::ReadWrite, v.name.clone())));
        let slot = |i: &hpgen_runtime::format::Import| (i.slot, 8, Protection::Read, format!("the slot for {}", i.dll));
        parts.extend(payload.imports.iter().map(slot));
        let value = |a: &hpgen_runtime::format::Assignment| {
            (a.value, a.size, Protection::Read, format!("the new value of {}", Rva(a.rva)))
        };
        parts.extend(payload.assignments.iter().map(value));
        parts.sort_by_key(|part| part.0);
        let mut end = 0;
        for (offset, size, protection, name) in parts {
            let after = offset.checked_add(size);
            let in_memory = after.and_then(|after| self.process.protection(offset..after));
            if in_memory != Some(protection) || offset < end {
                let found = format!("{name} at region offset {offset:#x}, protection {in_memory:?}");
                self.finding("region", None, &format!("memory of its own with protection {protection:?}"), found);
            }
            end = end.max(after.unwrap_or(u32::MAX));
        }
        for hook in payload.hooks.iter().filter(|hook| !functions_at.contains_key(&hook.function)) {
            self.finding("hook", None, "the start of a function of the payload", format!("{:#x}", hook.function));
        }
        if let Some((Space::Image, rva)) = payload.probation.and_then(|probation| probation.check) {
            let is_function =
                matches!(old.locate(Rva(rva)), Location::Atom { atom, offset: 0 } if old.function(atom).is_some());
            if !is_function {
                self.finding("health check", None, "the start of a function of the old image", Rva(rva).to_string());
            }
        }
        for assigned in &payload.assignments {
            let is_variable = matches!(old.locate(Rva(assigned.rva)), Location::Atom { atom, offset: 0 }
                if old.atom(atom).is_some_and(|atom| atom.kind == hpgen_diff::atoms::AtomKind::Writable && atom.size >= assigned.size));
            if !is_variable {
                let found = format!("{} bytes at {}", assigned.size, Rva(assigned.rva));
                self.finding("assignment", None, "a variable of the old image", found);
            }
        }
    }

    /// The payload's own throwing functions are what they say, and go on to functions.
    fn throws(&mut self) {
        let table = FunctionTable::read(self.process, &mut Vec::new());
        for function in self.facts.payload.functions.iter().filter(|function| throws::is_stub(function)) {
            match throws::read(self.process, &table, function) {
                Ok(stub) if self.is_code(stub.original, false) && self.facts.payload.identity.stays => {}
                Ok(stub) => {
                    let found = self.describe(Some(stub.original));
                    self.finding("throw", None, "a region that stays, and the start of a function", found);
                }
                Err(finding) => self.findings.push(finding),
            }
        }
    }

    /// Every address that the loader fills in leads to something.
    fn relocations(&mut self) {
        for relocation in &self.facts.payload.relocations {
            let place = self.process.in_region(relocation.place);
            let base = self.process.linked.function_table.map(|table| table.base);
            let target = match relocation.kind {
                RelocationKind::Addr64 => self.process.u64_at(place),
                RelocationKind::Rva32 => {
                    let rva = self.process.u32_at(place);
                    rva.zip(base).and_then(|(rva, base)| base.checked_add(rva.into()))
                }
                RelocationKind::Image32 => {
                    let distance = self.process.u32_at(place);
                    distance.and_then(|distance| self.process.in_image(Rva(0)).checked_add(distance.into()))
                }
                // In code: looked at as operands of instructions; in tables: from the field on.
                RelocationKind::Rel32 => continue,
            };
            self.references.add(if relocation.kind == RelocationKind::Addr64 { "pointer" } else { "image-relative" });
            if !target.is_some_and(|target| self.is_something(target)) {
                let found = format!("{} at region offset {:#x}", self.describe(target), relocation.place);
                self.finding("reference", None, "an object of the old image or of the region", found);
            }
        }
    }

    /// Whether an address, or the end of something before it, belongs to an object.
    fn is_something(&self, target: u64) -> bool {
        let belongs = |address: u64| match self.process.place(address) {
            Place::Image(rva) => matches!(self.facts.old.locate(rva), Location::Atom { .. } | Location::Headers(_)),
            Place::Region(offset) => {
                offset.checked_add(1).is_some_and(|end| self.process.protection(offset..end).is_some())
            }
            Place::Elsewhere => false,
        };
        belongs(target) || target.checked_sub(1).is_some_and(belongs)
    }

    /// The same words at every placement.
    fn describe(&self, target: Option<u64>) -> String {
        match target.map(|target| self.process.place(target)) {
            Some(Place::Image(rva)) => format!("{rva} of the image"),
            Some(Place::Region(offset)) => format!("region offset {offset:#x}"),
            Some(Place::Elsewhere) => "an address outside of both".to_owned(),
            None => "nothing".to_owned(),
        }
    }

    /// Reads a function as the processor would, instruction by instruction.
    fn code(&mut self, start: u32, size: u32, name: &str) {
        let ip = self.process.in_region(start);
        let Some(bytes) = self.process.read(ip, size).map(|bytes| bytes.to_vec()) else {
            return self.finding("code", Some((name, 0)), "code in one segment", "none".to_owned());
        };
        let mut fields: BTreeSet<u32> = self.fields(start, size);
        let instructions: Vec<Instruction> = Decoder::with_ip(64, &bytes, ip, DecoderOptions::NONE).iter().collect();
        let mut decoder = Decoder::with_ip(64, &bytes, ip, DecoderOptions::NONE);
        for instruction in &instructions {
            let _ = decoder.decode();
            let offset = u32::try_from(instruction.ip().wrapping_sub(ip)).unwrap_or(u32::MAX);
            if instruction.code() == Code::INVALID {
                return self.finding(
                    "code",
                    Some((name, offset)),
                    "an instruction",
                    "none that the processor has".to_owned(),
                );
            }
            let operands = decoder.get_constant_offsets(instruction);
            for (has, at) in [
                (operands.has_displacement(), operands.displacement_offset()),
                (operands.has_immediate(), operands.immediate_offset()),
            ] {
                if has {
                    fields.remove(&start.saturating_add(offset).saturating_add(at as u32));
                }
            }
            self.operands(instruction, (name, offset));
        }
        for field in fields {
            let found = format!("a relocation at region offset {field:#x}");
            self.finding("code", Some((name, field - start)), "relocations of operands only", found);
        }
        if let Some(last) = instructions.last()
            && !matches!(
                last.flow_control(),
                FlowControl::Return
                    | FlowControl::UnconditionalBranch
                    | FlowControl::IndirectBranch
                    | FlowControl::Exception
                    | FlowControl::Interrupt
            )
            && !matches!(last.mnemonic(), Mnemonic::Call | Mnemonic::Nop)
        {
            let offset = u32::try_from(last.ip().wrapping_sub(ip)).unwrap_or(u32::MAX);
            self.finding(
                "code",
                Some((name, offset)),
                "a function that ends",
                "code that runs on behind it".to_owned(),
            );
        }
    }

    /// Relocated fields in a part of the region.
    fn fields(&self, start: u32, size: u32) -> BTreeSet<u32> {
        let places = self.facts.payload.relocations.iter().map(|relocation| relocation.place);
        places.filter(|place| place.checked_sub(start).is_some_and(|inside| inside < size)).collect()
    }

    fn operands(&mut self, instruction: &Instruction, at: (&str, u32)) {
        if instruction.op_count() > 0 && instruction.op0_kind() == OpKind::NearBranch64 {
            self.references.add("branch");
            let target = instruction.near_branch_target();
            // Calls go to entries; cold parts jump back to the middle of others.
            let jumps = instruction.flow_control() != FlowControl::Call;
            let island = self.behind_island(instruction).filter(|_| jumps);
            if !self.is_code(target, jumps) && !island.is_some_and(|target| self.is_code(target, true)) {
                self.finding(
                    "reference",
                    Some(at),
                    "a branch to a function, or a label of one",
                    self.describe(Some(target)),
                );
            }
        }
        if instruction.is_ip_rel_memory_operand() {
            self.references.add("access");
            let target = instruction.ip_rel_memory_address();
            if !self.is_something(target) {
                self.finding(
                    "reference",
                    Some(at),
                    "an object of the old image or of the region",
                    self.describe(Some(target)),
                );
            }
        }
    }

    /// The entry of a function; of what is jumped to, any instruction of one.
    fn is_code(&self, target: u64, jumps: bool) -> bool {
        match self.process.place(target) {
            Place::Image(rva) => self.facts.old_function_at(rva).is_some() || jumps && self.is_label(rva),
            Place::Region(offset) => {
                self.facts.functions_at.contains_key(&offset) || jumps && self.starts.contains(&target)
            }
            Place::Elsewhere => false,
        }
    }

    /// Where a long jump beside a function leads, to which a short branch goes.
    fn behind_island(&self, branch: &Instruction) -> Option<u64> {
        const SHORT: usize = 2;
        const LONG: u32 = 5;
        let at = branch.near_branch_target();
        let is_region = matches!(self.process.place(at), Place::Region(_));
        let bytes = self.process.read(at, LONG).filter(|_| branch.len() == SHORT && is_region)?;
        let jump = Decoder::with_ip(64, &bytes, at, DecoderOptions::NONE).decode();
        (jump.code() == Code::Jmp_rel32_64).then(|| jump.near_branch_target())
    }

    /// An instruction of a function of the old image: cold parts come back to the middle of others.
    fn is_label(&self, rva: Rva) -> bool {
        let old = self.facts.old;
        matches!(old.locate(rva), Location::Atom { atom, offset }
            if old.function(atom).is_some_and(|function| function.code.instruction_at(offset).is_some()))
    }

    /// Whether exceptions could pass the old function; for a new one, any function of the old image.
    fn unwinds(&self, old_rva: Option<u32>) -> bool {
        let old = self.facts.old;
        match old_rva.and_then(|rva| self.facts.old_function_at(Rva(rva))).and_then(|index| old.function(index)) {
            Some(function) => !function.unwind.is_empty(),
            None => old.functions.iter().any(|function| !function.unwind.is_empty()),
        }
    }

    /// Functions that move the stack pointer or call have unwind data, unless the old build was made without; records are where they
    /// can be read. Gives their number.
    fn unwind(&mut self) -> usize {
        let table = FunctionTable::read(self.process, &mut self.findings);
        for function in &self.facts.payload.functions {
            let start = self.process.in_region(function.offset);
            if table.covers(start) || !self.unwinds(function.old_rva) {
                continue;
            }
            let Some(bytes) = self.process.read(start, function.size) else { continue };
            let frame = Decoder::with_ip(64, &bytes, start, DecoderOptions::NONE).iter().find(needs_frame);
            if let Some(instruction) = frame {
                let offset = u32::try_from(instruction.ip().wrapping_sub(start)).unwrap_or(u32::MAX);
                let expected = "unwind data for a function with a frame";
                self.finding("unwind", Some((&function.name, offset)), expected, "none".to_owned());
            }
        }
        let code: Vec<(u64, u64)> = self
            .facts
            .payload
            .functions
            .iter()
            .map(|f| {
                let start = self.process.in_region(f.offset);
                (start, start.wrapping_add(f.size.into()))
            })
            .collect();
        for (begin, end, info) in table.ranges() {
            let is_inside = code.iter().any(|(start, stop)| *start <= begin && end <= stop.next_multiple_of(16));
            let is_known = self
                .process
                .read(info, 4)
                .is_some_and(|head| matches!(head.first().map(|first| first & 7), Some(1 | 2)));
            if !is_inside || !is_known {
                let found = format!(
                    "{} to {}, record at {}",
                    self.describe(Some(begin)),
                    self.describe(Some(end)),
                    self.describe(Some(info))
                );
                self.finding("unwind", None, "an entry for a function of the payload, with a record", found);
            }
        }
        table.entries.len()
    }
}

fn instruction_starts(payload: &Payload, process: &Process) -> BTreeSet<u64> {
    let starts = payload.functions.iter().filter_map(|function| {
        let ip = process.in_region(function.offset);
        let bytes = process.read(ip, function.size)?;
        Some(Decoder::with_ip(64, &bytes, ip, DecoderOptions::NONE).iter().map(|i| i.ip()).collect::<Vec<_>>())
    });
    starts.flatten().collect()
}

/// Whether an unwinder could not pass the function as a leaf.
fn needs_frame(instruction: &Instruction) -> bool {
    match instruction.mnemonic() {
        Mnemonic::Push | Mnemonic::Call => true,
        Mnemonic::Sub | Mnemonic::Add | Mnemonic::Lea | Mnemonic::And => instruction.op0_register() == Register::RSP,
        _ => false,
    }
}
