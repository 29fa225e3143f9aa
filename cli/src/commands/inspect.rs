//! `hpgen inspect`.

use std::path::PathBuf;

use anyhow::{Result, bail};
use hpgen_diff::demangle::demangle;
use hpgen_diff::pdb::describe_identity;
use hpgen_diff::program::Program;
use hpgen_emit::disassembly::{Disassembly, Line};
use hpgen_runtime::format::{
    Demand, Function, ImportSymbol, Initialiser, Payload, PayloadFile, Probation, Protection, PublicKey,
    RelocationKind, Seal, Space, Trampoline,
};
use serde_json::{Map, Value, json};

use crate::Outcome;
use crate::args::{Format, InspectArguments};
use crate::output::{self, BAD, BOLD, DIM, count, paint};
use crate::{identity, payload_file};

/// Name and version of the JSON form.
const SCHEMA: &str = "hpgen-inspect/1";
/// Of that for a payload of several images.
const SET_SCHEMA: &str = "hpgen-inspect-set/1";

/// Prints a payload.
pub fn execute(arguments: &InspectArguments) -> Result<Outcome> {
    let bytes = payload_file::read_bytes(&arguments.file)?;
    let (file, seal) = payload_file::decode(&arguments.file, &bytes)?;
    let signer = PublicKey::claimed(&bytes)?.map(|key| (key, key.check(&bytes).is_ok()));
    let baselines = baselines(arguments, &file)?;
    let images: Vec<Inspected<'_>> = file
        .payloads
        .iter()
        .map(|payload| {
            let old = baselines.iter().find(|old| identity::fits(old, payload));
            Inspected { payload, asm: arguments.asm.then(|| Disassembly::of(payload, old)) }
        })
        .collect();
    match arguments.format {
        Format::Text => {
            let head = head(&file, &seal, signer);
            output::print(&images.iter().fold(head, |text, image| text + &image.text()));
        }
        Format::Json => output::json(&value(&images, &seal, signer))?,
    }
    Ok(Outcome::Done)
}

/// What is shown of one image's payload.
struct Inspected<'a> {
    payload: &'a Payload,
    asm: Option<Disassembly<'a>>,
}

impl Inspected<'_> {
    fn text(&self) -> String {
        let listings =
            self.asm.iter().flat_map(|asm| self.payload.functions.iter().map(|function| listing(asm, function)));
        text(self.payload) + &listings.collect::<String>()
    }

    fn value(&self) -> Map<String, Value> {
        let mut value = tables(self.payload);
        if let (Some(asm), Some(functions)) = (&self.asm, value["functions"].as_array_mut()) {
            for (value, function) in functions.iter_mut().zip(&self.payload.functions) {
                value["asm"] = asm.function(function).iter().map(instruction).collect();
            }
        }
        match value {
            Value::Object(members) => members,
            _ => Map::new(),
        }
    }
}

/// The images that were named, each of which the payload must be made for.
fn baselines(arguments: &InspectArguments, file: &PayloadFile) -> Result<Vec<Program>> {
    let mut baselines = Vec::new();
    for (index, path) in arguments.old.iter().enumerate() {
        let old = Program::load(path, arguments.old_pdb.get(index).map(PathBuf::as_path))?;
        if !file.payloads.iter().any(|payload| identity::fits(&old, payload)) {
            let wanted = |payload: &Payload| {
                let wanted = &payload.identity;
                format!("{} {}", wanted.image_name, describe_identity(&wanted.guid, wanted.age))
            };
            bail!(
                "{} is {}, and the payload is made for {}",
                path.display(),
                describe_identity(&old.image.identity.guid, old.image.identity.age),
                file.payloads.iter().map(wanted).collect::<Vec<_>>().join(" and "),
            );
        }
        baselines.push(old);
    }
    Ok(baselines)
}

/// The instructions of a function.
fn listing(asm: &Disassembly<'_>, function: &Function) -> String {
    let rows = asm.function(function).into_iter().map(|line| {
        let literal = line.literal.map(|literal| paint(DIM, format!("; {literal}"))).unwrap_or_default();
        vec![paint(DIM, format!("+{:#x}", line.offset)), line.text, literal]
    });
    let name = paint(BOLD, demangle(&function.name));
    format!("\n{name} at {:#x}\n{}", function.offset, output::table(&rows.collect::<Vec<_>>()))
}

fn instruction(line: &Line) -> Value {
    json!({ "offset": line.offset, "text": line.text, "literal": line.literal })
}

fn protection(protection: Protection) -> &'static str {
    match protection {
        Protection::ReadExecute => "read-execute",
        Protection::Read => "read",
        Protection::ReadWrite => "read-write",
    }
}

fn space(space: Space) -> &'static str {
    match space {
        Space::Image => "image",
        Space::Region => "region",
    }
}

fn kind(kind: RelocationKind) -> &'static str {
    match kind {
        RelocationKind::Rel32 => "rel32",
        RelocationKind::Addr64 => "addr64",
        RelocationKind::Rva32 => "rva32",
        RelocationKind::Image32 => "image32",
    }
}

fn symbol(symbol: &ImportSymbol) -> String {
    match symbol {
        ImportSymbol::Name(name) => name.clone(),
        ImportSymbol::Ordinal(ordinal) => format!("#{ordinal}"),
    }
}

/// What redirecting a function takes, in words.
pub fn demand(demand: Demand, is_no_stop: bool) -> &'static str {
    match demand {
        Demand::Nothing if is_no_stop => "needs no stop",
        Demand::Nothing => "needs a stop",
        Demand::Entry => "needs free first bytes",
        Demand::Body => "needs quiescence",
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

/// Who says to have signed the payload, and whether it is true.
type Signer = Option<(PublicKey, bool)>;

/// What the whole file says.
fn head(file: &PayloadFile, seal: &Seal, signer: Signer) -> String {
    let signed = match signer {
        None => "not signed".to_owned(),
        Some((key, true)) => format!("signed with key {key}"),
        Some((key, false)) => paint(BAD, format!("FORGED: not signed with key {key}, as it says")),
    };
    let images = match file.payloads.len() {
        1 => String::new(),
        images => format!(", for {images} images"),
    };
    format!("{} {}\n  seal {seal}\n  {signed}{images}\n", paint(BOLD, "patch"), paint(BOLD, seal.patch_id()))
}

/// What it says of one image.
fn text(payload: &Payload) -> String {
    let id = &payload.identity;
    let mut text = format!(
        "\n{} {}, series {}{}\n  timestamp {:#010x}, image size {:#x}, entry point {:#x}, preferred base {:#x}\n",
        paint(BOLD, format!("for {}", id.image_name)),
        describe_identity(&id.guid, id.age),
        id.series,
        if id.stays { ", never given back" } else { "" },
        id.timestamp,
        id.size_of_image,
        id.entry_point,
        id.image_base,
    );
    let mut section = |title: String, rows: Vec<Vec<String>>| {
        text.push_str(&format!("\n{}\n{}", paint(BOLD, title), output::table(&rows)));
    };
    section(
        format!("{} in a region of {:#x} bytes", count(payload.segments.len(), "segment"), payload.region_size()),
        payload
            .segments
            .iter()
            .map(|s| vec![format!("{:#x}", s.offset), format!("{} bytes", s.size), protection(s.protection).into()])
            .collect(),
    );
    section(
        count(payload.functions.len(), "function"),
        payload
            .functions
            .iter()
            .map(|f| {
                let new = if f.exported { "new, exported" } else { "new" };
                let old = f.old_rva.map_or(new.to_owned(), |rva| format!("replaces {rva:#x}"));
                vec![format!("{:#x}", f.offset), format!("{} bytes", f.size), old, f.name.clone()]
            })
            .collect(),
    );
    let no_stop = payload.trampolines.iter().filter(|t| t.is_no_stop()).count();
    section(
        format!("{}, {no_stop} without a stop", count(payload.trampolines.len(), "trampoline")),
        payload
            .trampolines
            .iter()
            .map(|t| {
                vec![
                    format!("{:#x}", t.entry_rva),
                    format!("-> {:#x}", t.target),
                    form(t),
                    demand(t.demand, t.is_no_stop()).to_owned(),
                    expects(t),
                    t.rebased_at.map(|at| format!("address at +{at}")).unwrap_or_default(),
                ]
            })
            .collect(),
    );
    section(
        count(payload.relocations.len(), "relocation"),
        payload
            .relocations
            .iter()
            .map(|r| {
                vec![
                    format!("{:#x}", r.place),
                    kind(r.kind).into(),
                    format!("{}+{:#x}{:+}", space(r.space), r.target, r.addend),
                ]
            })
            .collect(),
    );
    section(
        count(payload.imports.len(), "import"),
        payload
            .imports
            .iter()
            .map(|i| vec![format!("{:#x}", i.slot), format!("{}!{}", i.dll, symbol(&i.symbol))])
            .collect(),
    );
    section(
        count(payload.variables.len(), "variable"),
        payload
            .variables
            .iter()
            .map(|v| vec![format!("{:#x}", v.offset), format!("{} bytes", v.size), v.name.clone()])
            .collect(),
    );
    section(
        count(usize::from(payload.probation.is_some()), "probation"),
        payload.probation.iter().map(probation).collect(),
    );
    section(
        count(payload.hooks.len(), "hook"),
        payload.hooks.iter().map(|h| vec![h.kind.name().to_owned(), format!("-> {:#x}", h.function)]).collect(),
    );
    let elsewhere = payload.bodies.iter().filter(|body| body.start != body.entry_rva);
    section(
        count(elsewhere.clone().count(), "part") + " elsewhere",
        elsewhere
            .map(|b| vec![format!("{:#x}", b.start), format!("{} bytes", b.size), format!("of {:#x}", b.entry_rva)])
            .collect(),
    );
    section(
        count(payload.assignments.len(), "assignment"),
        payload
            .assignments
            .iter()
            .map(|a| vec![format!("{:#x}", a.rva), format!("{} bytes", a.size), format!("from {:#x}", a.value)])
            .collect(),
    );
    if !payload.initialisers.is_empty() {
        let rows = payload.initialisers.iter().map(initialiser).collect();
        section(count(payload.initialisers.len(), "initialised variable"), rows);
    }
    text.push_str(&format!(
        "\n{} at {:#x}\n",
        paint(BOLD, count(payload.unwind.count as usize, "unwind entry").replace("entrys", "entries")),
        payload.unwind.table
    ));
    text
}

/// How a function is redirected: what is written, and where besides the entry.
fn form(trampoline: &Trampoline) -> String {
    let name = trampoline.form.name();
    match (trampoline.gap, trampoline.callers.as_slice()) {
        (Some(gap), _) => format!("{name} by {:#x}", gap.rva),
        (None, []) => name.to_owned(),
        (None, callers) => {
            let fields: Vec<String> = callers.iter().map(|field| format!("{field:#x}")).collect();
            format!("{name} at {}", fields.join(", "))
        }
    }
}

/// What must stand there beforehand; callers' distances lead to the entry.
fn expects(trampoline: &Trampoline) -> String {
    if trampoline.expected.is_empty() { String::new() } else { format!("expects {}", hex(&trampoline.expected)) }
}

/// A variable, and who gives it its first value.
fn initialiser(i: &Initialiser) -> Vec<String> {
    let by = i.function.map_or_else(|| "left as it is".to_owned(), |function| format!("by {function:#x}"));
    let checked = if i.checked { ", which may refuse" } else { "" };
    let at_exit = if i.at_exit { ", with a function for the end of the process" } else { "" };
    vec![format!("{:#x}", i.variable), format!("{by}{checked}{at_exit}")]
}

/// For programs: flat for a payload of one image, with a list for one of several.
fn value(images: &[Inspected<'_>], seal: &Seal, signer: Signer) -> Value {
    let mut value = Map::new();
    let schema = if images.len() == 1 { SCHEMA } else { SET_SCHEMA };
    value.insert("schema".into(), schema.into());
    value.insert("patch_id".into(), seal.patch_id().into());
    value.insert("seal".into(), seal.to_string().into());
    value.insert(
        "signature".into(),
        signer.map(|(key, valid)| json!({ "key": key.to_string(), "valid": valid })).into(),
    );
    match images {
        [only] => value.extend(only.value()),
        several => {
            value.insert("images".into(), several.iter().map(|image| Value::Object(image.value())).collect());
        }
    }
    Value::Object(value)
}

/// What it says of one image.
fn tables(payload: &Payload) -> Value {
    let id = &payload.identity;
    json!({
        "series": id.series,
        "stays": id.stays,
        "identity": {
            "image": id.image_name,
            "pdb": describe_identity(&id.guid, id.age),
            "timestamp": id.timestamp,
            "size_of_image": id.size_of_image,
            "entry_point": id.entry_point,
            "image_base": id.image_base,
        },
        "region_size": payload.region_size(),
        "segments": payload.segments.iter().map(|s| json!({
            "offset": s.offset, "size": s.size, "content": s.content.len(), "protection": protection(s.protection),
        })).collect::<Vec<_>>(),
        "functions": payload.functions.iter().map(|f| json!({
            "name": f.name, "offset": f.offset, "size": f.size, "old_rva": f.old_rva, "exported": f.exported,
        })).collect::<Vec<_>>(),
        "trampolines": payload.trampolines.iter().map(|t| json!({
            "entry_rva": t.entry_rva, "target": t.target, "form": t.form.name(), "demand": t.demand.name(),
            "no_stop": t.is_no_stop(), "expected": hex(&t.expected), "rebased_at": t.rebased_at,
            "gap": t.gap.map(|gap| json!({ "rva": gap.rva, "expected": hex(&gap.expected) })),
            "callers": t.callers,
        })).collect::<Vec<_>>(),
        "relocations": payload.relocations.iter().map(|r| json!({
            "place": r.place, "kind": kind(r.kind), "space": space(r.space), "target": r.target, "addend": r.addend,
        })).collect::<Vec<_>>(),
        "imports": payload.imports.iter().map(|i| json!({
            "slot": i.slot, "dll": i.dll, "symbol": symbol(&i.symbol),
        })).collect::<Vec<_>>(),
        "variables": payload.variables.iter().map(|v| json!({
            "offset": v.offset, "size": v.size, "name": v.name,
        })).collect::<Vec<_>>(),
        "hooks": payload.hooks.iter().map(|h| json!({
            "kind": h.kind.name(), "function": h.function,
        })).collect::<Vec<_>>(),
        "assignments": payload.assignments.iter().map(|a| json!({
            "rva": a.rva, "value": a.value, "size": a.size,
        })).collect::<Vec<_>>(),
        "bodies": payload.bodies.iter().map(|b| json!({
            "entry_rva": b.entry_rva, "start": b.start, "size": b.size, "checked": b.checked, "digest": hex(&b.digest),
        })).collect::<Vec<_>>(),
        "initialisers": payload.initialisers.iter().map(|i| json!({
            "function": i.function, "variable": i.variable, "checked": i.checked, "at_exit": i.at_exit,
        })).collect::<Vec<_>>(),
        "unwind": { "table": payload.unwind.table, "count": payload.unwind.count },
        "probation": payload.probation.map(|p| json!({
            "window_ms": p.window_ms, "interval_ms": p.interval_ms,
            "check": p.check.map(|(place, target)| json!({ "space": space(place), "target": target })),
        })),
    })
}

fn probation(probation: &Probation) -> Vec<String> {
    let check = probation.check.map(|(place, target)| format!("-> {} {target:#x}", space(place)));
    let interval = format!("health check every {}", output::milliseconds(probation.interval_ms));
    let mut row = vec![output::milliseconds(probation.window_ms)];
    row.extend(check.map(|check| [interval, check]).into_iter().flatten());
    row
}
