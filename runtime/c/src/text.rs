//! Text that comes from C, and goes there.

use std::ffi::{CStr, OsString, c_char};
use std::path::PathBuf;

use crate::answer::Failure;

/// A caller's memory for text with its closing zero. None where it is null or has no byte.
#[derive(Debug, Clone, Copy)]
pub struct Room(Option<(*mut c_char, usize)>);

impl Room {
    /// For what is not told.
    pub const NONE: Room = Room(None);

    /// # Safety
    /// `text` is null, or so many bytes may be written there during the call.
    pub unsafe fn new(text: *mut c_char, size: usize) -> Room {
        Room((!text.is_null() && size > 0).then_some((text, size)))
    }
}

/// Writes as many whole characters as there is room for, and a zero.
pub fn write(room: Room, text: &str) {
    let Some((place, size)) = room.0 else { return };
    let bytes = whole_characters(text, size.saturating_sub(1)).as_bytes();
    // SAFETY: `Room::new` was promised `size` bytes, and there are fewer than that.
    unsafe {
        std::ptr::copy_nonoverlapping(bytes.as_ptr().cast(), place, bytes.len());
        *place.add(bytes.len()) = 0;
    }
}

/// The same into a field, of which what is left over becomes zero.
pub fn fixed<const SIZE: usize>(text: &str) -> [c_char; SIZE] {
    let mut field = [0; SIZE];
    let bytes = whole_characters(text, SIZE.saturating_sub(1)).as_bytes();
    field.iter_mut().zip(bytes).for_each(|(to, from)| *to = from.cast_signed());
    field
}

/// Text with its closing zero.
#[cfg(feature = "watching")]
pub fn ended(text: &str) -> Vec<c_char> {
    text.bytes().filter(|byte| *byte != 0).chain([0]).map(u8::cast_signed).collect()
}

/// As much of the text as fits into so many bytes.
fn whole_characters(text: &str, size: usize) -> &str {
    (0..=size.min(text.len())).rev().find_map(|end| text.get(..end)).unwrap_or_default()
}

/// # Safety
/// `text` is null, or ends with a zero, and stays as it is during the call.
pub unsafe fn utf8<'a>(text: *const c_char, what: &str) -> Result<&'a str, Failure> {
    if text.is_null() {
        return Err(Failure::usage(&format!("{what} is null")));
    }
    // SAFETY: the caller's promise.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str().map_err(|_| Failure::usage(&format!("{what} is not UTF-8")))
}

/// # Safety
/// As [`utf8`], with units of 16 bits.
pub unsafe fn wide_path(text: *const u16) -> Result<PathBuf, Failure> {
    if text.is_null() {
        return Err(Failure::usage("path is null"));
    }
    // SAFETY: the caller's promise: everything up to the zero may be read.
    let units = unsafe {
        let length = (0..).take_while(|index| *text.add(*index) != 0).count();
        std::slice::from_raw_parts(text, length)
    };
    Ok(PathBuf::from(from_wide(units)?))
}

#[cfg(windows)]
fn from_wide(units: &[u16]) -> Result<OsString, Failure> {
    Ok(std::os::windows::ffi::OsStringExt::from_wide(units))
}

#[cfg(not(windows))]
fn from_wide(units: &[u16]) -> Result<OsString, Failure> {
    let text = String::from_utf16(units).map_err(|_| Failure::usage("path is not UTF-16"))?;
    Ok(text.into())
}
