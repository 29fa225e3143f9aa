//! `hpgen symbolize`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use hpgen_emit::symbol_file::{ImageSymbols, Place, SourceFrame, SymbolFile};
use hpgen_runtime::format::{Payload, PayloadFile, Seal};
use serde_json::{Value, json};

use crate::Outcome;
use crate::args::{Format, SymbolizeArguments};
use crate::output::{self, BOLD, DIM, paint};
use crate::payload_file;

/// Name and version of the JSON form.
const SCHEMA: &str = "hpgen-symbolize/1";

/// An address that was asked about.
struct Asked<'a> {
    /// As it was written.
    text: &'a str,
    /// From the region's start; none before it, or too far behind it.
    offset: Option<u32>,
}

/// Where an address is.
enum Found<'a> {
    Function(Place<'a>),
    /// Unwind data, constants, variables, or a gap.
    NoCode,
    Outside,
}

/// Says what stands at addresses of a payload's region.
pub fn execute(arguments: &SymbolizeArguments) -> Result<Outcome> {
    let (file, seal) = payload_file::decode(&arguments.file, &payload_file::read_bytes(&arguments.file)?)?;
    let beside = payload_file::symbols_path(&arguments.file);
    let symbols = read(arguments.symbols.as_deref().unwrap_or(&beside), &seal)?;
    let (payload, symbols) = of_image(&file, &symbols, arguments.image.as_deref())?;
    let region = arguments.region.as_deref().map(|text| number(text, "--region")).transpose()?;
    let asked = arguments.addresses.iter().map(|text| parse(text, region)).collect::<Result<Vec<_>>>()?;
    let found: Vec<(Asked<'_>, Found<'_>)> = asked
        .into_iter()
        .map(|asked| {
            let found = find(payload, symbols, &asked);
            (asked, found)
        })
        .collect();
    match arguments.format {
        Format::Text => {
            output::print(&found.iter().map(|(asked, found)| text(asked, found)).collect::<String>());
        }
        Format::Json => output::json(&json!({
            "schema": SCHEMA,
            "patch_id": seal.patch_id(),
            "addresses": found.iter().map(|(asked, found)| value(asked, found)).collect::<Vec<_>>(),
        }))?,
    }
    Ok(Outcome::Done)
}

/// What the payload and its symbols say of the image that is asked about.
fn of_image<'a>(
    file: &'a PayloadFile,
    symbols: &'a SymbolFile,
    name: Option<&str>,
) -> Result<(&'a Payload, &'a ImageSymbols)> {
    let names = || file.payloads.iter().map(|p| p.identity.image_name.as_str()).collect::<Vec<_>>().join(", ");
    let symbols = symbols.image(name).ok_or_else(|| match name {
        Some(name) => anyhow!("the payload is not for {name}, but for {}", names()),
        None => anyhow!("say with --image which region it is: the payload is for {}", names()),
    })?;
    let payload = file.payloads.iter().find(|payload| payload.identity.image_name == symbols.image);
    let payload = payload.ok_or_else(|| anyhow!("the symbols are for {}, which the payload is not", symbols.image))?;
    Ok((payload, symbols))
}

fn read(path: &Path, seal: &Seal) -> Result<SymbolFile> {
    let bytes = fs::read(path).with_context(|| {
        format!(
            "cannot read {}; `hpgen build` writes it beside the payload, --symbols names it elsewhere",
            path.display()
        )
    })?;
    SymbolFile::decode(&bytes, seal).map_err(|problem| anyhow!("{} {problem}", path.display()))
}

/// Hexadecimal, as debuggers print addresses: with or without `0x`, with or without a mark in the middle.
fn number(text: &str, what: &str) -> Result<u64> {
    let digits: String = text.chars().filter(|c| !matches!(c, '`' | '_')).collect();
    let digits = digits.strip_prefix("0x").or(digits.strip_prefix("0X")).unwrap_or(&digits);
    let is_hexadecimal = !digits.is_empty() && digits.chars().all(|c| c.is_ascii_hexdigit());
    let number = is_hexadecimal.then(|| u64::from_str_radix(digits, 16).ok()).flatten();
    number.ok_or_else(|| anyhow!("{what} {text}: not an address in hexadecimal"))
}

fn parse(text: &str, region: Option<u64>) -> Result<Asked<'_>> {
    let offset = match (text.strip_prefix('+'), region) {
        (Some(offset), _) => Some(number(offset, "address")?),
        (None, Some(region)) => number(text, "address")?.checked_sub(region),
        (None, None) => bail!(
            "address {text}: say where the region begins with --region BASE (`hpgen status` prints it), or write an offset into it as +0x1234"
        ),
    };
    Ok(Asked { text, offset: offset.and_then(|offset| u32::try_from(offset).ok()) })
}

fn find<'a>(payload: &Payload, symbols: &'a ImageSymbols, asked: &Asked<'_>) -> Found<'a> {
    let inside = asked.offset.filter(|offset| *offset < payload.region_size());
    match inside.map(|offset| symbols.at(offset)) {
        Some(Some(place)) => Found::Function(place),
        Some(None) => Found::NoCode,
        None => Found::Outside,
    }
}

fn text(asked: &Asked<'_>, found: &Found<'_>) -> String {
    let address = paint(DIM, asked.text);
    let place = match found {
        Found::Function(place) => place,
        Found::NoCode => return format!("{address}  in the region, but in no function\n"),
        Found::Outside => return format!("{address}  outside the region\n"),
    };
    let name = paint(BOLD, format!("{}+{:#x}", place.function.display, place.offset));
    let mut text = format!("{address}  {name}  {}\n", source(place.frames.first()));
    // An inlined function is told with the line that it was called from: that of the frame around it.
    for (frame, caller) in place.frames.iter().zip(place.frames.iter().skip(1)) {
        if let Some(inlined) = frame.inlined {
            text.push_str(&format!("    in {inlined}, inlined at {}\n", source(Some(caller))));
        }
    }
    text
}

/// File and line of a frame.
pub fn source(frame: Option<&SourceFrame<'_>>) -> String {
    match frame.and_then(|frame| frame.source) {
        Some((file, line)) => format!("{file}:{line}"),
        None => "?".to_owned(),
    }
}

fn value(asked: &Asked<'_>, found: &Found<'_>) -> Value {
    let place = match found {
        Found::Function(place) => place,
        Found::NoCode => return json!({ "address": asked.text, "offset": asked.offset, "place": "no-code" }),
        Found::Outside => return json!({ "address": asked.text, "offset": asked.offset, "place": "outside" }),
    };
    json!({
        "address": asked.text,
        "offset": asked.offset,
        "place": "function",
        "function": place.function.name,
        "display": place.function.display,
        "function_offset": place.offset,
        "frames": frames_value(place),
    })
}

/// The calls that a place stands in, for programs: the innermost first.
pub fn frames_value(place: &Place<'_>) -> Value {
    let frame = |frame: &SourceFrame<'_>| {
        json!({
            "inlined": frame.inlined,
            "file": frame.source.map(|(file, _)| file),
            "line": frame.source.map(|(_, line)| line),
        })
    };
    place.frames.iter().map(frame).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_debuggers_print_them() {
        for (text, region, offset) in [
            ("+0x1234", None, Some(0x1234)),
            ("+1234", Some(0x7000), Some(0x1234)),
            ("0x7ff612345678", Some(0x7ff6_1234_0000), Some(0x5678)),
            ("00007ff6`12345678", Some(0x7ff6_1234_0000), Some(0x5678)),
            ("7fff", Some(0x8000), None),
            ("0x1000000000", Some(0), None),
        ] {
            assert_eq!(parse(text, region).unwrap().offset, offset, "{text} in {region:?}");
        }
        for (text, region) in
            [("0x1234", None), ("+", None), ("+0x", None), ("+-1", None), ("main", Some(0)), ("", Some(0))]
        {
            assert!(parse(text, region).is_err(), "{text}");
        }
    }
}
