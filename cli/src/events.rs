//! The record of what is done to processes: a file of JSON lines, and the system's log.
//!
//! One line an event, schema `hpgen-event/1`: the time, and the fields that [`hpgen_runtime::events`] lists.

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::SystemTime;

use anyhow::{Context, Result};
use hpgen_runtime::{Severity, events, write_event_log};
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{self, Layer, SubscriberExt};
use tracing_subscriber::registry;
use tracing_subscriber::util::SubscriberInitExt;

use crate::args::Recording;

/// Name and version of a line's form.
const SCHEMA: &str = "hpgen-event/1";
/// In the user's own folder for programs' data.
const DEFAULT: &str = "hpgen\\events.jsonl";
/// In place of a file: no record.
const NONE: &str = "none";

/// From here on events are recorded as `recording` says.
///
/// # Errors
/// When the file cannot be written: what is not recorded is not done.
pub fn start(recording: &Recording) -> Result<()> {
    let file = match &recording.events {
        Some(path) if path.as_os_str() == NONE => return Ok(()),
        Some(path) => Some(path.clone()),
        None => default_path(),
    };
    let file = file.as_deref().map(open).transpose()?;
    let record = Record { file: file.map(Mutex::new) };
    registry().with(record).try_init().context("events are recorded already")
}

/// None on systems that have no such folder.
fn default_path() -> Option<PathBuf> {
    std::env::var_os("LOCALAPPDATA").map(|folder| Path::new(&folder).join(DEFAULT))
}

fn open(path: &Path) -> Result<File> {
    if let Some(folder) = path.parent() {
        // If it does not work, opening the file says why.
        let _ = fs::create_dir_all(folder);
    }
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.with_context(|| format!("cannot write the record {}; --events names another file, or `none`", path.display()))
}

struct Record {
    file: Option<Mutex<File>>,
}

impl<S: Subscriber> Layer<S> for Record {
    fn enabled(&self, metadata: &Metadata<'_>, _: layer::Context<'_, S>) -> bool {
        metadata.target() == events::TARGET
    }

    fn on_event(&self, event: &Event<'_>, _: layer::Context<'_, S>) {
        let mut fields = Fields(Map::new());
        fields.0.insert("schema".into(), SCHEMA.into());
        fields.0.insert("time".into(), humantime::format_rfc3339_millis(SystemTime::now()).to_string().into());
        event.record(&mut fields);
        let line = Value::Object(fields.0).to_string() + "\n";
        if let Some(Ok(mut file)) = self.file.as_ref().map(Mutex::lock) {
            // One call, so that lines of several hpgen do not mix. Nobody is left to tell that it failed.
            let _ = file.write_all(line.as_bytes());
        }
        let severity = match *event.metadata().level() {
            Level::ERROR => Severity::Failed,
            Level::WARN => Severity::Refused,
            _ => Severity::Done,
        };
        write_event_log(severity, line.trim_end());
    }
}

struct Fields(Map<String, Value>);

impl Fields {
    fn set(&mut self, field: &Field, value: Value) {
        self.0.insert(field.name().to_owned(), value);
    }
}

impl Visit for Fields {
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field, value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.set(field, format!("{value:?}").into());
    }
}
