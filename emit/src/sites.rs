//! Which form of jump each redirected function gets.
//!
//! One that can be written wherever threads are comes first, then one that only its first bytes must be free for, then one that the whole
//! function must be free for; among equals, the one without a gap. Where there is no such jump, all callers are redirected. Gaps go to functions that cannot do without before they go to those that could.

use std::collections::BTreeMap;
use std::ops::Range;

use hpgen_diff::atoms::AtomIndex;
use hpgen_diff::image::Image;
use hpgen_diff::program::Program;
use hpgen_diff::rva::{Rva, span};
use hpgen_runtime::format::{Body, Demand, Gap, Trampoline, TrampolineForm};

use crate::callers;
use crate::gaps::Gaps;
use crate::trampoline::{Entries, JUMP, Refusal, Way, Ways, not_all_callers};

/// Where and how an old function is redirected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// The old function's entry.
    pub entry: Rva,
    pub(crate) way: Way,
    pub(crate) gap: Option<Gap>,
    /// Where its callers lead to it, where those are redirected.
    pub(crate) callers: Vec<Rva>,
    pub(crate) bodies: Vec<Range<Rva>>,
}

impl Site {
    /// The payload's record of it, leading to a region offset.
    pub(crate) fn trampoline(&self, target: u32) -> Trampoline {
        let callers = self.callers.iter().map(|field| field.0).collect();
        Trampoline { callers, ..trampoline(self.entry, &self.way, self.gap, target) }
    }

    /// Whether bytes that are written begin an instruction at an address of the image.
    fn overwrites(&self, instruction: Rva) -> bool {
        span(self.entry, self.way.form.written() as u32).contains(&instruction)
    }

    /// The payload's records of where the function's code is.
    pub(crate) fn bodies(&self) -> impl Iterator<Item = Body> {
        let body = |run: &Range<Rva>| Body::unchecked(self.entry.0, run.start.0, run.end.0 - run.start.0);
        self.bodies.iter().map(body)
    }
}

fn trampoline(entry: Rva, way: &Way, gap: Option<Gap>, target: u32) -> Trampoline {
    Trampoline {
        entry_rva: entry.0,
        target,
        form: way.form,
        demand: way.demand,
        expected: way.expected.clone(),
        rebased_at: way.rebased_at,
        gap,
        callers: Vec::new(),
    }
}

/// What a way costs a process: less is better.
fn cost(entry: Rva, way: &Way) -> (bool, Demand) {
    (!trampoline(entry, way, None, 0).is_no_stop(), way.demand)
}

/// Chooses for all functions of a payload.
pub(crate) fn choose(
    old: &Program,
    ways: &BTreeMap<AtomIndex, Ways>,
    bodies: impl Fn(AtomIndex) -> Vec<Range<Rva>>,
    mut gaps: Gaps,
) -> (BTreeMap<AtomIndex, Site>, BTreeMap<AtomIndex, Refusal>) {
    let mut order: Vec<(&AtomIndex, &Ways)> = ways.iter().collect();
    order.sort_unstable_by_key(|(_, ways)| ways.entry);
    let reserved: Vec<Range<Rva>> = order.iter().map(|(_, ways)| span(ways.entry, JUMP)).collect();
    let needs_gap = |ways: &Ways| match (&ways.long, &ways.short) {
        (Err(_), _) => true,
        (Ok(long), Ok(short)) => long.demand == Demand::Body && short.demand != Demand::Body,
        (Ok(_), Err(_)) => false,
    };
    // A stable sort: by entry within each half.
    order.sort_by_key(|(_, ways)| !needs_gap(ways));
    let (mut sites, mut refused) = (BTreeMap::new(), BTreeMap::new());
    for (index, ways) in order {
        match site(ways, |entry| gaps.take(entry, &reserved)) {
            Ok(site) => {
                sites.insert(*index, Site { bodies: bodies(*index), ..site });
            }
            Err(refusal) => {
                refused.insert(*index, refusal);
            }
        }
    }
    refuse_neighbours(&mut sites, &mut refused);
    leave_out_overwritten(&old.image, &mut sites, &mut refused);
    (sites, refused)
}

/// Calls that stand in bytes that a jump replaces are made no more.
fn leave_out_overwritten(
    image: &Image,
    sites: &mut BTreeMap<AtomIndex, Site>,
    refused: &mut BTreeMap<AtomIndex, Refusal>,
) {
    let jumps: Vec<Site> = sites.values().filter(|site| site.callers.is_empty()).cloned().collect();
    let is_made = |field: &Rva| {
        let instruction = callers::instruction_start(image, *field).unwrap_or(*field);
        !jumps.iter().any(|site| site.overwrites(instruction))
    };
    for (index, site) in sites.iter_mut().filter(|(_, site)| !site.callers.is_empty()) {
        site.callers.retain(is_made);
        if site.callers.is_empty() {
            let message = "the old function is too short for a jump, and all that lead to it do so in bytes that other jumps replace";
            refused.insert(*index, ("function-too-short", message.to_owned()));
        }
    }
    sites.retain(|index, _| !refused.contains_key(index));
}

fn site(ways: &Ways, mut gap_for: impl FnMut(Rva) -> Option<Gap>) -> Result<Site, Refusal> {
    let (entry, long) = (ways.entry, &ways.long);
    let site = |way, gap, callers| Site { entry, way, gap, callers, bodies: Vec::new() };
    if let Ok(short) = &ways.short
        && long.as_ref().map_or(true, |long| cost(entry, short) < cost(entry, long))
        && let Some(gap) = gap_for(entry)
    {
        return Ok(site(short.clone(), Some(gap), Vec::new()));
    }
    if let Ok(callers) = &ways.callers {
        let nothing =
            Way { form: TrampolineForm::Callers, demand: Demand::Nothing, expected: Vec::new(), rebased_at: None };
        return Ok(site(nothing, None, callers.clone()));
    }
    let no_gap = |(code, message): Refusal| {
        let message = match &ways.short {
            Ok(_) => format!("{message}; nor is there a gap between functions that a short jump could reach"),
            Err(_) => message,
        };
        (code, ways.callers.as_ref().err().map_or(message.clone(), |obstacle| not_all_callers(&message, obstacle)))
    };
    long.clone().map(|long| site(long, None, Vec::new())).map_err(no_gap)
}

/// Jumps must not run into each other.
fn refuse_neighbours(sites: &mut BTreeMap<AtomIndex, Site>, refused: &mut BTreeMap<AtomIndex, Refusal>) {
    let mut spans: Vec<(Rva, Rva, AtomIndex)> = sites
        .iter()
        .map(|(index, site)| (site.entry, span(site.entry, site.way.expected.len() as u32).end, *index))
        .collect();
    spans.sort_unstable();
    for pair in spans.windows(2) {
        if let &[(_, end, _), (start, _, index)] = pair
            && start < end
        {
            sites.remove(&index);
            let message = format!("its entry {start} lies inside the jump that the entry before it needs");
            refused.insert(index, ("entries-too-close", message));
        }
    }
}

/// How the functions of an image could be redirected, were each the only one.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Survey {
    /// Without stopping a thread.
    pub no_stop: usize,
    /// Those among them that take a gap.
    pub by_gap: usize,
    /// With threads stopped, wherever they are.
    pub stop: usize,
    /// With their first bytes free.
    pub entry: usize,
    /// With nothing in them.
    pub body: usize,
    /// With threads stopped, wherever they are, by their callers.
    pub callers: usize,
    /// Not at all.
    pub refused: usize,
    /// Those functions, and why not.
    pub obstacles: Vec<(String, String)>,
}

impl Survey {
    /// Looks at all functions but funclets, which are never redirected.
    pub fn of(program: &Program) -> Survey {
        let (entries, gaps, funclets) = (Entries::of(program), Gaps::of(program), program.funclets());
        let mut survey = Survey::default();
        for index in program.functions.iter().map(|function| function.atom).filter(|index| !funclets.contains(index)) {
            let chosen = entries.ways(program, index).and_then(|ways| {
                let reserved = [span(ways.entry, JUMP)];
                site(&ways, |entry| gaps.look(entry, &reserved))
            });
            let counter = match chosen {
                Err((_, message)) => {
                    let name = program.atom(index).map(|atom| program.display(atom)).unwrap_or_default();
                    survey.obstacles.push((name, message));
                    &mut survey.refused
                }
                Ok(site) => match site.way.demand {
                    Demand::Nothing if site.trampoline(0).is_no_stop() => {
                        survey.by_gap += usize::from(site.gap.is_some());
                        &mut survey.no_stop
                    }
                    Demand::Nothing if !site.callers.is_empty() => &mut survey.callers,
                    Demand::Nothing => &mut survey.stop,
                    Demand::Entry => &mut survey.entry,
                    Demand::Body => &mut survey.body,
                },
            };
            *counter += 1;
        }
        survey
    }

    /// How many functions there are.
    pub fn all(&self) -> usize {
        self.no_stop + self.stop + self.entry + self.body + self.callers + self.refused
    }
}
