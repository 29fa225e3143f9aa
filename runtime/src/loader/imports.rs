//! Addresses of functions that a payload needs and the old image does not import, found in the target's own modules.

use windows_sys::Win32::Foundation::FreeLibrary;
use windows_sys::Win32::System::LibraryLoader::{GetModuleFileNameW, LOAD_LIBRARY_SEARCH_SYSTEM32, LoadLibraryExW};

use super::modules::Modules;
use super::process::Process;
use crate::ApplyError;
use crate::format::{Import, ImportSymbol, Payload, PayloadFile};
use crate::target::exports::{Export, find_export};
use crate::target::image::LoadedImage;

/// Forwarders that lead to forwarders are followed so often.
const MAX_FORWARDS: u32 = 16;

/// Where an import is.
pub(super) enum Imported {
    /// At an address of the process.
    Known(u64),
    /// In the region of the file's payload of this number, at an offset: another image's fix brings it.
    Brought(usize, u32),
}

/// Each of the payload's imports, in their order.
pub(super) fn resolve_all(
    process: &Process,
    modules: &Modules,
    file: &PayloadFile,
    payload: &Payload,
) -> Result<Vec<Imported>, ApplyError> {
    let one = |import: &Import| match brought(file, import) {
        Some(brought) => Ok(brought),
        None => resolve(process, modules, &import.dll, &import.symbol).map(Imported::Known),
    };
    payload.imports.iter().map(one).collect()
}

fn brought(file: &PayloadFile, import: &Import) -> Option<Imported> {
    let ImportSymbol::Name(name) = &import.symbol else { return None };
    let is_it = |payload: &Payload| payload.identity.image_name.eq_ignore_ascii_case(&import.dll);
    let number = file.payloads.iter().position(is_it)?;
    let functions = &file.payloads.get(number)?.functions;
    let function = functions.iter().find(|function| function.exported && function.name == *name)?;
    Some(Imported::Brought(number, function.offset))
}

/// Finds one export, through forwarders and API sets.
pub(super) fn resolve(
    process: &Process,
    modules: &Modules,
    dll: &str,
    symbol: &ImportSymbol,
) -> Result<u64, ApplyError> {
    let (mut dll_now, mut symbol_now) = (dll.to_owned(), symbol.clone());
    for step in 0..MAX_FORWARDS {
        let missing = || ApplyError::ImportModule { dll: dll_now.clone(), symbol: symbol_text(&symbol_now) };
        let host = if is_api_set(&dll_now) { api_set_host(&dll_now).ok_or_else(missing)? } else { dll_now.clone() };
        let module = modules.named(&host).next().ok_or_else(missing)?;
        let image =
            LoadedImage::read(process, module.base).map_err(|problem| process.bad_memory(module.base, problem))?;
        match find_export(process, &image, &symbol_now) {
            Some(Export::Address(address)) => return Ok(address),
            Some(Export::Forward { dll, symbol }) => (dll_now, symbol_now) = (dll, symbol),
            None => {
                let symbol = symbol_text(&symbol_now);
                return Err(ApplyError::ImportSymbol { dll: host, symbol, forwarded: step > 0 });
            }
        }
    }
    Err(ApplyError::ImportSymbol { dll: dll.to_owned(), symbol: symbol_text(symbol), forwarded: true })
}

fn symbol_text(symbol: &ImportSymbol) -> String {
    match symbol {
        ImportSymbol::Name(name) => name.clone(),
        ImportSymbol::Ordinal(ordinal) => format!("#{ordinal}"),
    }
}

/// A name that stands for another DLL, by a table of the system's.
fn is_api_set(dll: &str) -> bool {
    let prefix = dll.get(..4).unwrap_or_default();
    prefix.eq_ignore_ascii_case("api-") || prefix.eq_ignore_ascii_case("ext-")
}

/// The DLL behind an API set. The table is the same in all processes, so the own loader can be asked.
fn api_set_host(dll: &str) -> Option<String> {
    let name: Vec<u16> = dll.encode_utf16().chain([0]).collect();
    // SAFETY: the name ends with zero; only the system's folder is searched, so nothing but the system's own DLLs can be loaded.
    let module = unsafe { LoadLibraryExW(name.as_ptr(), std::ptr::null_mut(), LOAD_LIBRARY_SEARCH_SYSTEM32) };
    if module.is_null() {
        return None;
    }
    let mut path = vec![0u16; 1024];
    // SAFETY: the module is loaded, and the buffer has the given length.
    let length = unsafe { GetModuleFileNameW(module, path.as_mut_ptr(), path.len() as u32) };
    // SAFETY: loaded above.
    unsafe { FreeLibrary(module) };
    let path = String::from_utf16(path.get(..length as usize)?).ok()?;
    path.rsplit('\\').next().map(str::to_owned)
}
