//! x64 unwind data: "x64 exception handling", sections "struct UNWIND_INFO" and "Chained unwind info structures".

use crate::image::{Image, RuntimeFunction};
use crate::rva::Rva;

/// The function has an exception handler (`UNW_FLAG_EHANDLER`).
pub const FLAG_EXCEPTION_HANDLER: u8 = 1;
/// The function has a termination handler (`UNW_FLAG_UHANDLER`).
pub const FLAG_TERMINATION_HANDLER: u8 = 2;
/// The record continues another one (`UNW_FLAG_CHAININFO`).
pub const FLAG_CHAINED: u8 = 4;

/// One decoded `UNWIND_INFO`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnwindInfo {
    /// Where it stands.
    pub rva: Rva,
    /// Format version, 1 or 2.
    pub version: u8,
    /// `UNW_FLAG_*`.
    pub flags: u8,
    /// Header and codes without the slot that fills up to an even count.
    pub codes: Vec<u8>,
    /// Language handler and where its data begins.
    pub handler: Option<(Rva, Rva)>,
    /// The record that this one continues.
    pub chained: Option<RuntimeFunction>,
}

impl UnwindInfo {
    /// Decodes the record at `rva`.
    ///
    /// # Errors
    /// Says in words what is wrong with it.
    pub fn read(image: &Image, rva: Rva) -> Result<UnwindInfo, &'static str> {
        const OUTSIDE: &str = "the unwind record is not inside a section";
        let &[first, _, count, _] = image.bytes(rva, 4).ok_or(OUTSIDE)? else {
            return Err(OUTSIDE);
        };
        let (version, flags) = (first & 7, first >> 3);
        if !(1..=2).contains(&version) {
            return Err("the unwind record has a version other than 1 and 2");
        }
        let codes_len = 4 + 2 * u32::from(count);
        let codes = image.bytes(rva, codes_len).ok_or(OUTSIDE)?.to_vec();
        let tail = rva.checked_add(4 + 2 * u32::from(count).next_multiple_of(2)).ok_or(OUTSIDE)?;
        let field =
            |index: u32| tail.checked_add(4 * index).and_then(|place| image.u32_at(place)).map(Rva).ok_or(OUTSIDE);
        let (mut handler, mut chained) = (None, None);
        if flags & FLAG_CHAINED != 0 {
            chained = Some(RuntimeFunction { range: field(0)?..field(1)?, unwind_info: field(2)? });
        } else if flags & (FLAG_EXCEPTION_HANDLER | FLAG_TERMINATION_HANDLER) != 0 {
            handler = Some((field(0)?, tail.checked_add(4).ok_or(OUTSIDE)?));
        }
        Ok(UnwindInfo { rva, version, flags, codes, handler, chained })
    }
}
