//! `hpgen inspect`.

use std::path::Path;

use anyhow::{Result, bail};
use hpgen_diff::demangle::demangle;
use hpgen_diff::pdb::describe_identity;
use hpgen_diff::program::Program;
use hpgen_emit::disassembly::{Disassembly, Line};
use hpgen_runtime::format::{Function, ImportSymbol, Payload, Protection, PublicKey, RelocationKind, Seal, Space};
use serde_json::{Value, json};

use crate::Outcome;
use crate::args::{Format, InspectArguments};
use crate::output::{self, BAD, BOLD, DIM, count, paint};
use crate::payload_file;

/// Name and version of the JSON form.
const SCHEMA: &str = "hpgen-inspect/1";

/// Prints a payload.
pub fn execute(arguments: &InspectArguments) -> Result<Outcome> {
    let file = payload_file::read_bytes(&arguments.file)?;
    let (payload, seal) = payload_file::decode(&arguments.file, &file)?;
    let signer = PublicKey::claimed(&file)?.map(|key| (key, key.check(&file).is_ok()));
    let old =
        arguments.old.as_deref().map(|path| baseline(path, arguments.old_pdb.as_deref(), &payload)).transpose()?;
    let asm = arguments.asm.then(|| Disassembly::of(&payload, old.as_ref()));
    match arguments.format {
        Format::Text => {
            let listings = asm.iter().flat_map(|asm| payload.functions.iter().map(|function| listing(asm, function)));
            output::print(&(text(&payload, &seal, signer) + &listings.collect::<String>()));
        }
        Format::Json => {
            let mut value = value(&payload, &seal, signer);
            if let (Some(asm), Some(functions)) = (&asm, value["functions"].as_array_mut()) {
                for (value, function) in functions.iter_mut().zip(&payload.functions) {
                    value["asm"] = asm.function(function).iter().map(instruction).collect();
                }
            }
            output::json(&value)?;
        }
    }
    Ok(Outcome::Done)
}

/// The image that a payload is made for.
fn baseline(path: &Path, pdb: Option<&Path>, payload: &Payload) -> Result<Program> {
    let old = Program::load(path, pdb)?;
    let (is, wanted) = (&old.image.identity, &payload.identity);
    let fits = (is.guid, is.age, is.timestamp, is.size_of_image)
        == (wanted.guid, wanted.age, wanted.timestamp, wanted.size_of_image);
    if !fits {
        bail!(
            "{} is {}, and the payload is made for {} {}",
            path.display(),
            describe_identity(&is.guid, is.age),
            wanted.image_name,
            describe_identity(&wanted.guid, wanted.age),
        );
    }
    Ok(old)
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
    }
}

fn symbol(symbol: &ImportSymbol) -> String {
    match symbol {
        ImportSymbol::Name(name) => name.clone(),
        ImportSymbol::Ordinal(ordinal) => format!("#{ordinal}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

/// Who says to have signed the payload, and whether it is true.
type Signer = Option<(PublicKey, bool)>;

fn text(payload: &Payload, seal: &Seal, signer: Signer) -> String {
    let id = &payload.identity;
    let mut text = format!(
        "{} {}\n  seal {seal}\n  {}, series {}\n  for {} {}\n  timestamp {:#010x}, image size {:#x}, entry point {:#x}, preferred base {:#x}\n",
        paint(BOLD, "patch"),
        paint(BOLD, seal.patch_id()),
        match signer {
            None => "not signed".to_owned(),
            Some((key, true)) => format!("signed with key {key}"),
            Some((key, false)) => paint(BAD, format!("FORGED: not signed with key {key}, as it says")),
        },
        id.series,
        id.image_name,
        describe_identity(&id.guid, id.age),
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
                let old = f.old_rva.map_or("new".to_owned(), |rva| format!("replaces {rva:#x}"));
                vec![format!("{:#x}", f.offset), format!("{} bytes", f.size), old, f.name.clone()]
            })
            .collect(),
    );
    section(
        count(payload.trampolines.len(), "trampoline"),
        payload
            .trampolines
            .iter()
            .map(|t| {
                vec![
                    format!("{:#x}", t.entry_rva),
                    format!("-> {:#x}", t.target),
                    format!("expects {}", hex(&t.expected)),
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
        count(payload.hooks.len(), "hook"),
        payload.hooks.iter().map(|h| vec![h.kind.name().to_owned(), format!("-> {:#x}", h.function)]).collect(),
    );
    section(
        count(payload.assignments.len(), "assignment"),
        payload
            .assignments
            .iter()
            .map(|a| vec![format!("{:#x}", a.rva), format!("{} bytes", a.size), format!("from {:#x}", a.value)])
            .collect(),
    );
    text.push_str(&format!(
        "\n{} at {:#x}\n",
        paint(BOLD, count(payload.unwind.count as usize, "unwind entry").replace("entrys", "entries")),
        payload.unwind.table
    ));
    text
}

fn value(payload: &Payload, seal: &Seal, signer: Signer) -> Value {
    let id = &payload.identity;
    json!({
        "schema": SCHEMA,
        "patch_id": seal.patch_id(),
        "seal": seal.to_string(),
        "series": id.series,
        "signature": signer.map(|(key, valid)| json!({ "key": key.to_string(), "valid": valid })),
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
            "name": f.name, "offset": f.offset, "size": f.size, "old_rva": f.old_rva,
        })).collect::<Vec<_>>(),
        "trampolines": payload.trampolines.iter().map(|t| json!({
            "entry_rva": t.entry_rva, "target": t.target, "form": "jump32", "expected": hex(&t.expected), "rebased_at": t.rebased_at,
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
        "unwind": { "table": payload.unwind.table, "count": payload.unwind.count },
    })
}
