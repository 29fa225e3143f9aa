//! `__DATE__` and `__TIME__`, told from other dates by the time stamp of the image.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::LazyLock;

use regex::bytes::{Captures, Regex};
use time::{Date, Month};

use crate::atoms::AtomKind;
use crate::pairing::indexed;
use crate::program::Program;
use crate::symbols::ModuleIndex;

/// Length of what `__DATE__` stands for.
pub(crate) const DATE: usize = "Jan  1 2026".len();

/// The forms that the C standard prescribes (6.10.8.1): `Mmm dd yyyy` with a blank in place of a leading zero, and `hh:mm:ss`.
static FORMS: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let date = "(?P<month>Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) (?P<day>[ 1-3][0-9]) (?P<year>[0-9]{4})";
    let time = "(?P<time>(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-6][0-9])";
    Regex::new(&format!(r"(?-u:\b)(?:{date}|{time})(?-u:\b)")).ok()
});

const MONTHS: [&[u8]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

/// Time zones reach from 12 hours behind to 14 hours ahead of Greenwich.
const ZONES: Range<i64> = -14 * HOUR..12 * HOUR;

/// A compiler may run this long before the linker.
const LONGEST_BUILD: i64 = 12 * HOUR;

const HOUR: i64 = 60 * 60;
const DAY: i64 = 24 * HOUR;

/// When a program was built, by its own account.
#[derive(Debug, Default)]
pub(crate) struct BuildDates {
    /// Seconds since 1970, from the image's header. A hash in builds that are to be reproducible: no date is near it then.
    linked: i64,
    /// Modules that hold the date of the build: times in them are times of the build.
    dated: BTreeSet<ModuleIndex>,
}

impl BuildDates {
    pub fn of(program: &Program) -> BuildDates {
        let mut dates = BuildDates { linked: i64::from(program.image.identity.timestamp), dated: BTreeSet::new() };
        let dated = indexed(program)
            .filter(|(_, atom)| matches!(atom.kind, AtomKind::ReadOnly | AtomKind::Writable))
            .filter(|(_, atom)| {
                let bytes = program.image.bytes_up_to(atom.rva..atom.end());
                found(bytes).any(|form| dates.is_date(&form))
            })
            .filter_map(|(_, atom)| atom.module)
            .collect();
        dates.dated = dated;
        dates
    }

    /// The dates and times of the build among the bytes of a module.
    pub fn in_bytes(&self, module: Option<ModuleIndex>, bytes: &[u8]) -> Vec<Range<usize>> {
        let is_dated = module.is_some_and(|module| self.dated.contains(&module));
        found(bytes)
            .filter(|form| self.is_date(form) || is_dated && form.name("time").is_some())
            .filter_map(|form| form.get(0).map(|all| all.range()))
            .collect()
    }

    /// Whether the program was linked on that day, somewhere on earth, or so soon after it that the compiler may have run then.
    fn is_date(&self, form: &Captures<'_>) -> bool {
        let day = || {
            let text = |name| std::str::from_utf8(form.name(name)?.as_bytes()).ok();
            let month = form.name("month")?.as_bytes();
            let month = MONTHS.iter().position(|name| *name == month)? + 1;
            let month = Month::try_from(u8::try_from(month).ok()?).ok()?;
            let date = Date::from_calendar_date(text("year")?.parse().ok()?, month, text("day")?.trim().parse().ok()?);
            Some(date.ok()?.midnight().assume_utc().unix_timestamp())
        };
        day().is_some_and(|start| (start + ZONES.start..start + DAY + ZONES.end + LONGEST_BUILD).contains(&self.linked))
    }
}

fn found(bytes: &[u8]) -> impl Iterator<Item = Captures<'_>> {
    FORMS.iter().flat_map(move |forms| forms.captures_iter(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-03-05, 12:00 in Greenwich.
    const NOON: i64 = 1_772_712_000;

    fn dates(linked: i64, dated: &[ModuleIndex], text: &str) -> Vec<String> {
        let dates = BuildDates { linked, dated: dated.iter().copied().collect() };
        dates.in_bytes(Some(7), text.as_bytes()).into_iter().map(|range| text[range].to_owned()).collect()
    }

    #[test]
    fn the_day_of_the_image_is_a_date_of_the_build() {
        assert_eq!(dates(NOON, &[], "built Mar  5 2026\0"), ["Mar  5 2026"]);
        assert_eq!(dates(NOON - 14 * HOUR, &[], "Mar  5 2026"), ["Mar  5 2026"], "in Kiribati");
        assert_eq!(dates(NOON + DAY, &[], "Mar  5 2026"), ["Mar  5 2026"], "in Hawaii, and the build took the night");
    }

    #[test]
    fn another_day_is_a_text_like_any_other() {
        for text in ["Mar  4 2025", "Mar  8 2026", "Mar  2 2026", "Mar 35 2026", "March 5 2026", "Mar  5 20261"] {
            assert!(dates(NOON, &[], text).is_empty(), "{text}");
        }
        assert!(dates(0, &[], "Mar  5 2026").is_empty(), "no time stamp");
    }

    #[test]
    fn a_time_counts_where_the_module_holds_the_date() {
        assert_eq!(dates(NOON, &[7], "at 11:59:01"), ["11:59:01"]);
        assert!(dates(NOON, &[], "11:59:01").is_empty());
        assert!(dates(NOON, &[6], "11:59:01").is_empty());
        assert!(dates(NOON, &[7], "31:59:01 or 11:59").is_empty());
    }
}
