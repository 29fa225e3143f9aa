//! One thing wrong at a time, in every part of a payload.

use hpgen_diff::atoms::{AtomIndex, AtomKind};
use hpgen_diff::program::{Location, Program};
use hpgen_diff::rva::Rva;
use hpgen_runtime::format::{
    Assignment, Body, Demand, Function, Gap, HookKind, Import, ImportSymbol, Initialiser, MAX_PROBATION_MS, Payload,
    Probation, Protection, Relocation, RelocationKind, Space, Trampoline, TrampolineForm, Variable,
};

/// What is wrong, and what makes it so.
pub struct Mutation {
    pub what: String,
    change: Box<dyn Fn(&mut Payload) + Send + Sync>,
}

impl Mutation {
    /// The payload with this wrong; none where that changes nothing.
    pub fn of(&self, payload: &Payload) -> Option<Payload> {
        let mut mutant = payload.clone();
        (self.change)(&mut mutant);
        (mutant != *payload).then_some(mutant)
    }
}

/// All mutations of a payload for `old`.
pub fn all(old: &Program, payload: &Payload) -> Vec<Mutation> {
    let mut list = List { mutations: Vec::new() };
    for (index, relocation) in payload.relocations.iter().enumerate() {
        list.relocation(old, payload, index, relocation);
    }
    for (index, trampoline) in payload.trampolines.iter().enumerate() {
        list.trampoline(payload, index, trampoline);
    }
    for (index, function) in payload.functions.iter().enumerate() {
        list.function(payload, index, function);
    }
    for index in 0..payload.imports.len() {
        list.import(index);
    }
    for (index, variable) in payload.variables.iter().enumerate() {
        list.variable(index, variable);
    }
    for index in 0..payload.hooks.len() {
        list.hook(payload, index);
    }
    for index in 0..payload.assignments.len() {
        list.assignment(index);
    }
    for index in 0..payload.initialisers.len() {
        list.initialiser(payload, index);
    }
    for index in 0..payload.segments.len() {
        list.segment(payload, index);
    }
    list.identity(payload);
    list.unwind();
    list.mutations
}

/// Mutations of how a patch is watched. Not how long, and not by which of its functions: that is the author's word.
pub fn probation(payload: &Payload) -> Vec<Mutation> {
    let mut list = List { mutations: Vec::new() };
    let mut change = |how: &str, change: Box<dyn Fn(&mut Probation) + Send + Sync>| {
        list.add(format!("probation: {how}"), move |payload| payload.probation.iter_mut().for_each(&change));
    };
    change("no time", Box::new(|p| p.window_ms = 0));
    change("more than seven days", Box::new(|p| p.window_ms = MAX_PROBATION_MS + 1));
    change("never", Box::new(|p| p.interval_ms = 0));
    change("too late", Box::new(|p| p.interval_ms = p.window_ms + 1));
    for distance in [-1, 1] {
        let moved =
            move |p: &mut Probation| p.check = p.check.map(|(space, at)| (space, at.wrapping_add_signed(distance)));
        change(&format!("check {distance:+}"), Box::new(moved));
    }
    // An old body that the patch takes out of use is found by nothing but its entry.
    for trampoline in &payload.trampolines {
        let body = trampoline.entry_rva + 1;
        change("check inside a redirected function", Box::new(move |p| p.check = Some((Space::Image, body))));
    }
    for variable in &payload.variables {
        let offset = variable.offset;
        change("a variable for a check", Box::new(move |p| p.check = Some((Space::Region, offset))));
    }
    list.mutations
}

struct List {
    mutations: Vec<Mutation>,
}

impl List {
    fn add(&mut self, what: String, change: impl Fn(&mut Payload) + Send + Sync + 'static) {
        self.mutations.push(Mutation { what, change: Box::new(change) });
    }

    fn relocation(&mut self, old: &Program, payload: &Payload, index: usize, relocation: &Relocation) {
        let Relocation { place, kind, space, target, .. } = relocation;
        let what = format!("relocation at {place:#x}, {kind:?} {space:?} {target:#x}");
        let mut change = |how: String, change: Box<dyn Fn(&mut Relocation) + Send + Sync>| {
            self.add(format!("{what}: {how}"), move |payload| change(&mut payload.relocations[index]));
        };
        for distance in [-1, 1, -8, 8, 0x1000] {
            let how = format!("target {distance:+}");
            change(how, Box::new(move |r| r.target = r.target.wrapping_add_signed(distance)));
        }
        for distance in [-4, -1, 1, 4] {
            change(format!("addend {distance:+}"), Box::new(move |r| r.addend += distance));
        }
        for kind in [RelocationKind::Rel32, RelocationKind::Addr64, RelocationKind::Rva32, RelocationKind::Image32] {
            change(format!("kind {kind:?}"), Box::new(move |r| r.kind = kind));
        }
        let other = if *space == Space::Image { Space::Region } else { Space::Image };
        change("other space".to_owned(), Box::new(move |r| r.space = other));
        for target in neighbours(payload, old, relocation) {
            change(format!("target {target:#x}, another object"), Box::new(move |r| r.target = target));
        }
        change("place +1".to_owned(), Box::new(|r| r.place += 1));
        self.add(format!("{what}: removed"), move |payload| {
            payload.relocations.remove(index);
        });
    }

    fn trampoline(&mut self, payload: &Payload, index: usize, trampoline: &Trampoline) {
        let entry = trampoline.entry_rva;
        let mut change = |how: &str, change: Box<dyn Fn(&mut Trampoline) + Send + Sync>| {
            self.add(format!("trampoline at {entry:#x}: {how}"), move |payload| {
                change(&mut payload.trampolines[index])
            });
        };
        change("entry +1", Box::new(|t| t.entry_rva += 1));
        change("entry +16", Box::new(|t| t.entry_rva += 16));
        change("target +1", Box::new(|t| t.target += 1));
        for function in near(&payload.functions, index) {
            let offset = function.offset;
            change("another function", Box::new(move |t| t.target = offset));
        }
        for at in 0..trampoline.expected.len() {
            for bit in [0, 3, 7] {
                change(&format!("expected byte {at} bit {bit}"), Box::new(move |t| t.expected[at] ^= 1 << bit));
            }
        }
        for more in [0xcc, 0x90, 0x00, 0x48] {
            change(&format!("longer by {more:#x}"), Box::new(move |t| t.expected.push(more)));
        }
        change(
            "one expected byte less",
            Box::new(|t| {
                t.expected.pop();
            }),
        );
        change("rebased at 0", Box::new(|t| t.rebased_at = Some(0)));
        change("not rebased", Box::new(|t| t.rebased_at = None));
        for demand in [Demand::Nothing, Demand::Entry, Demand::Body] {
            change(demand.name(), Box::new(move |t| t.demand = demand));
        }
        for form in TrampolineForm::ALL {
            change(form.name(), Box::new(move |t| t.form = form));
        }
        if trampoline.gap.is_some() {
            let mut in_gap = |how: &str, edit: fn(&mut Gap)| {
                change(how, Box::new(move |t| t.gap.iter_mut().for_each(edit)));
            };
            in_gap("gap +1", |gap| gap.rva += 1);
            in_gap("gap -1", |gap| gap.rva -= 1);
            in_gap("gap +16", |gap| gap.rva += 16);
            in_gap("gap -16", |gap| gap.rva -= 16);
            in_gap("gap expects another byte", |gap| gap.expected[2] ^= 0xcc ^ 0x90);
        }
        for number in 0..trampoline.callers.len() {
            let mut caller = |how: &str, edit: fn(&mut u32)| {
                change(&format!("caller {number} {how}"), Box::new(move |t| edit(&mut t.callers[number])));
            };
            caller("+1", |field| *field += 1);
            caller("-5", |field| *field -= 5);
            change(
                &format!("caller {number} removed"),
                Box::new(move |t| {
                    t.callers.remove(number);
                }),
            );
        }
        change("another caller", Box::new(|t| t.callers.push(t.entry_rva + 16)));
        for (number, body) in payload.bodies.iter().enumerate().filter(|(_, body)| body.entry_rva == entry) {
            let mut change = |how: &str, edit: fn(&mut Body)| {
                self.add(format!("trampoline at {entry:#x}: body at {:#x} {how}", body.start), move |payload| {
                    edit(&mut payload.bodies[number])
                });
            };
            change("one byte less", |body| body.size -= 1);
            change("one byte more", |body| body.size += 1);
            change("one byte on", |body| body.start += 1);
            change("one byte less checked", |body| body.checked -= 1);
            change("another digest", |body| body.digest[3] ^= 1);
            self.add(format!("trampoline at {entry:#x}: body at {:#x} removed", body.start), move |payload| {
                payload.bodies.remove(number);
            });
        }
        self.add(format!("trampoline at {entry:#x}: removed"), move |payload| {
            payload.trampolines.remove(index);
        });
    }

    fn function(&mut self, payload: &Payload, index: usize, function: &Function) {
        let what = format!("function {}", function.name);
        let mut change = |how: &str, change: Box<dyn Fn(&mut Function) + Send + Sync>| {
            self.add(format!("{what}: {how}"), move |payload| change(&mut payload.functions[index]));
        };
        change("offset +1", Box::new(|f| f.offset += 1));
        change("offset +16", Box::new(|f| f.offset += 16));
        change("offset -16", Box::new(|f| f.offset -= 16));
        change("size +1", Box::new(|f| f.size += 1));
        change("size -1", Box::new(|f| f.size -= 1));
        change("no old entry", Box::new(|f| f.old_rva = None));
        change("old entry +1", Box::new(|f| f.old_rva = Some(f.old_rva.map_or(0x1000, |rva| rva + 1))));
        for other in near(&payload.functions, index) {
            let (old_rva, name) = (other.old_rva, other.name.clone());
            change("another old entry", Box::new(move |f| f.old_rva = old_rva));
            change("another name", Box::new(move |f| f.name.clone_from(&name)));
        }
        change("unknown name", Box::new(|f| f.name.push('_')));
        change("exported", Box::new(|f| f.exported = !f.exported));
        self.add(format!("{what}: removed"), move |payload| {
            payload.functions.remove(index);
        });
    }

    fn import(&mut self, index: usize) {
        let mut change = |how: &str, change: fn(&mut Import)| {
            self.add(format!("import {index}: {how}"), move |payload| change(&mut payload.imports[index]));
        };
        change("another DLL", |i| i.dll = "user32.dll".to_owned());
        change("another name", |i| i.symbol = ImportSymbol::Name("ExitProcess".to_owned()));
        change("unknown name", |i| i.symbol = ImportSymbol::Name("Sleepy".to_owned()));
        change("by ordinal", |i| i.symbol = ImportSymbol::Ordinal(1));
        change("slot +8", |i| i.slot += 8);
        change("slot +1", |i| i.slot += 1);
        self.add(format!("import {index}: removed"), move |payload| {
            payload.imports.remove(index);
        });
    }

    fn variable(&mut self, index: usize, variable: &Variable) {
        let what = format!("variable {}", variable.name);
        let mut change = |how: &str, change: fn(&mut Variable)| {
            self.add(format!("{what}: {how}"), move |payload| change(&mut payload.variables[index]));
        };
        change("offset +4", |v| v.offset += 4);
        change("size +1", |v| v.size += 1);
        change("size -1", |v| v.size -= 1);
        change("another name", |v| v.name.push('2'));
        self.add(format!("{what}: removed"), move |payload| {
            payload.variables.remove(index);
        });
    }

    fn hook(&mut self, payload: &Payload, index: usize) {
        for kind in HookKind::ALL {
            self.add(format!("hook {index}: {}", kind.name()), move |payload| payload.hooks[index].kind = kind);
        }
        for function in &payload.functions {
            let offset = function.offset;
            let what = format!("hook {index}: {}", function.name);
            self.add(what, move |payload| payload.hooks[index].function = offset);
        }
        self.add(format!("hook {index}: removed"), move |payload| {
            payload.hooks.remove(index);
        });
    }

    fn assignment(&mut self, index: usize) {
        let mut change = |how: &str, change: fn(&mut Assignment)| {
            self.add(format!("assignment {index}: {how}"), move |payload| change(&mut payload.assignments[index]));
        };
        change("variable +1", |a| a.rva += 1);
        change("variable -8", |a| a.rva -= 8);
        change("value +1", |a| a.value += 1);
        change("value -4", |a| a.value -= 4);
        change("size +1", |a| a.size += 1);
        change("size -1", |a| a.size -= 1);
        self.add(format!("assignment {index}: removed"), move |payload| {
            payload.assignments.remove(index);
        });
    }

    /// Not that the author leaves the variable as it is: that is the author's word.
    fn initialiser(&mut self, payload: &Payload, index: usize) {
        let mut change = |how: &str, change: fn(&mut Initialiser)| {
            self.add(format!("initialiser {index}: {how}"), move |payload| change(&mut payload.initialisers[index]));
        };
        change("checked", |i| i.checked = !i.checked);
        change("at exit", |i| i.at_exit = !i.at_exit);
        change("variable +4", |i| i.variable += 4);
        for function in &payload.functions {
            let offset = function.offset;
            let what = format!("initialiser {index}: {}", function.name);
            self.add(what, move |payload| payload.initialisers[index].function = Some(offset));
        }
        for variable in &payload.variables {
            let offset = variable.offset;
            let what = format!("initialiser {index}: of {}", variable.name);
            self.add(what, move |payload| payload.initialisers[index].variable = offset);
        }
        self.add(format!("initialiser {index}: removed"), move |payload| {
            payload.initialisers.remove(index);
        });
        let duplicate = payload.initialisers[index];
        self.add(format!("initialiser {index}: twice"), move |payload| payload.initialisers.push(duplicate));
    }

    /// Every byte, and what the segment is.
    fn segment(&mut self, payload: &Payload, index: usize) {
        let segment = &payload.segments[index];
        for at in 0..segment.content.len() {
            let place = segment.offset as usize + at;
            for bits in [0x01, 0x80] {
                self.add(format!("byte at {place:#x} ^ {bits:#x}"), move |payload| {
                    payload.segments[index].content[at] ^= bits;
                });
            }
        }
        for protection in [Protection::ReadExecute, Protection::Read, Protection::ReadWrite] {
            self.add(format!("segment {index}: {protection:?}"), move |payload| {
                payload.segments[index].protection = protection;
            });
        }
        self.add(format!("segment {index}: cut off"), move |payload| {
            payload.segments[index].content.pop();
            payload.segments[index].size -= 1;
        });
        self.add(format!("segment {index}: moved"), move |payload| payload.segments[index].offset += 0x1000);
        self.add(format!("segment {index}: removed"), move |payload| {
            payload.segments.remove(index);
        });
    }

    fn identity(&mut self, payload: &Payload) {
        self.add("identity: GUID".to_owned(), |payload| payload.identity.guid[0] ^= 1);
        self.add("identity: age".to_owned(), |payload| payload.identity.age += 1);
        self.add("identity: time stamp".to_owned(), |payload| payload.identity.timestamp ^= 1);
        self.add("identity: size".to_owned(), |payload| payload.identity.size_of_image += 0x1000);
        self.add("identity: entry point".to_owned(), |payload| payload.identity.entry_point += 1);
        if payload.identity.stays {
            self.add("identity: given back".to_owned(), |payload| payload.identity.stays = false);
        }
        self.add("identity: base".to_owned(), |payload| payload.identity.image_base += 0x1_0000);
    }

    fn unwind(&mut self) {
        for distance in [-12, -4, 4, 12] {
            self.add(format!("unwind table {distance:+}"), move |payload| {
                payload.unwind.table = payload.unwind.table.wrapping_add_signed(distance);
            });
        }
        self.add("unwind count -1".to_owned(), |payload| payload.unwind.count = payload.unwind.count.saturating_sub(1));
        self.add("unwind count +1".to_owned(), |payload| payload.unwind.count += 1);
        self.add("unwind count 0".to_owned(), |payload| payload.unwind.count = 0);
    }
}

/// Some functions beside one.
fn near(functions: &[Function], index: usize) -> &[Function] {
    let start = index.saturating_sub(4).min(functions.len());
    &functions[start..(start + 8).min(functions.len())]
}

/// Starts of objects near a relocation's target that hold something else.
fn neighbours(payload: &Payload, old: &Program, relocation: &Relocation) -> Vec<u32> {
    if relocation.space == Space::Region {
        let functions: Vec<u32> = payload.functions.iter().map(|function| function.offset).collect();
        let at = functions.partition_point(|offset| *offset <= relocation.target);
        let beside = [at.checked_sub(2), Some(at)].into_iter().flatten();
        return beside.filter_map(|at| functions.get(at)).copied().collect();
    }
    let Location::Atom { atom, .. } = old.locate(Rva(relocation.target)) else { return Vec::new() };
    // Only constants are what they hold.
    let content = |index: u32| {
        let atom = old.atom(AtomIndex(index))?;
        let is_constant = atom.kind == AtomKind::ReadOnly;
        Some((atom.rva, if is_constant { old.image.bytes_up_to(atom.rva..atom.end()) } else { &[] }))
    };
    let own = content(atom.0).map_or(&[][..], |(_, bytes)| bytes);
    [atom.0.checked_sub(1), Some(atom.0 + 1)]
        .into_iter()
        .flatten()
        .filter_map(content)
        .filter(|(_, bytes)| bytes.is_empty() || *bytes != own)
        .map(|(rva, _)| rva.0)
        .collect()
}
