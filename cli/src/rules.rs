//! Rules from `hpgen.toml` and from the command line, and how a patch is to be watched.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use clap::Args;
use hpgen_emit::plan::ProbationRequest;
use hpgen_emit::rules::{Action, Rule};
use hpgen_runtime::format::MAX_PROBATION_MS;
use serde::Deserialize;

/// The file that is read where none is named, if it is there.
const DEFAULT: &str = "hpgen.toml";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    accept: Vec<Rule>,
    #[serde(default)]
    probation: ProbationArguments,
}

/// How the patch is watched once it is in.
#[derive(Debug, Clone, Default, Deserialize, Args)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ProbationArguments {
    /// A function of the new build, `int NAME(void)`, that returns 0 where all is well: whoever applies the payload calls it for the time of the
    /// probation, and rolls the patch back when it returns anything else.
    #[arg(long, value_name = "NAME")]
    pub health_check: Option<String>,
    /// For how long the patch is watched once it is in, 30s for example; an exception that nobody handles in its code then rolls it back too. 30s where
    /// only a health check is given.
    #[arg(long = "probation", value_name = "TIME")]
    pub window: Option<String>,
    /// How often the health check is called; every second when not given.
    #[arg(long = "probation-interval", value_name = "TIME")]
    pub interval: Option<String>,
}

const WINDOW_MS: u32 = 30_000;
const INTERVAL_MS: u32 = 1000;

impl ProbationArguments {
    /// These, and the file's where there is none.
    fn or(self, file: ProbationArguments) -> ProbationArguments {
        ProbationArguments {
            health_check: self.health_check.or(file.health_check),
            window: self.window.or(file.window),
            interval: self.interval.or(file.interval),
        }
    }

    fn request(&self) -> Result<Option<ProbationRequest>> {
        if self.health_check.is_none() && self.window.is_none() {
            anyhow::ensure!(self.interval.is_none(), "an interval of no probation: give its time with --probation");
            return Ok(None);
        }
        let window_ms = self.window.as_deref().map_or(Ok(WINDOW_MS), milliseconds)?;
        let interval_ms = self.interval.as_deref().map_or(Ok(INTERVAL_MS.min(window_ms)), milliseconds)?;
        anyhow::ensure!(interval_ms <= window_ms, "the interval of the health check is longer than the probation");
        Ok(Some(ProbationRequest { window_ms, interval_ms, check: self.health_check.clone() }))
    }
}

fn milliseconds(text: &str) -> Result<u32> {
    let time = humantime::parse_duration(text).with_context(|| format!("{text} is no time like 500ms, 30s or 2h"))?;
    let time = u32::try_from(time.as_millis()).ok().filter(|time| (1..=MAX_PROBATION_MS).contains(time));
    time.with_context(|| format!("{text} is not between 1ms and 7days"))
}

/// The rules of a file, and those of the command line, which come first; and how the patch is to be watched.
pub fn read(
    named: Option<&PathBuf>,
    given: &[String],
    probation: &ProbationArguments,
) -> Result<(Vec<Rule>, Option<ProbationRequest>)> {
    let mut probation = probation.clone();
    let mut rules = given.iter().map(|text| parse(text)).collect::<Result<Vec<_>>>()?;
    let path = named.map(PathBuf::as_path).or(Some(Path::new(DEFAULT)).filter(|path| path.is_file()));
    if let Some(path) = path {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let file: File = toml::from_str(&text).with_context(|| path.display().to_string())?;
        rules.extend(file.accept);
        probation = probation.or(file.probation);
    }
    Ok((rules, probation.request()?))
}

/// `SYMBOL=ACTION`.
fn parse(text: &str) -> Result<Rule> {
    let unfit = || anyhow!("--accept {text}: write SYMBOL=keep, SYMBOL=set or SYMBOL=hook");
    let (symbol, action) = text.rsplit_once('=').filter(|(symbol, _)| !symbol.is_empty()).ok_or_else(unfit)?;
    let action = match action {
        "keep" => Action::Keep,
        "set" => Action::Set,
        "hook" => Action::Hook,
        _ => return Err(unfit()),
    };
    Ok(Rule { symbol: symbol.to_owned(), reason: None, action, why: None })
}
