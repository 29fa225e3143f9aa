//! Inlined calls as CodeView stores them: the binary annotations of `S_INLINESITE` and `DEBUG_S_INLINEELINES`.
//!
//! The annotations are a small program that moves a place in the code and a line along (`CV_BinaryAnnotationOpcode` of
//! `cvinfo.h`; numbers are packed into one, two or four bytes like those of .NET metadata). Offsets count from the start of
//! the procedure, lines from the one where `DEBUG_S_INLINEELINES` says the inlined function begins.

use std::collections::HashMap;
use std::ops::Range;

use ms_pdb::lines::{LineData, SubsectionKind};

/// Code that came from one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LineOfCode {
    /// Offsets from the procedure's start.
    pub range: Range<u32>,
    /// Offset into the module's list of files.
    pub file: u32,
    /// The line.
    pub line: u32,
}

/// File and first line of every function that the module inlined, by its item id.
pub(crate) fn inlinees(c13: &LineData<'_>) -> HashMap<u32, (u32, u32)> {
    let mut found = HashMap::new();
    for subsection in c13.subsections().filter(|s| s.kind == SubsectionKind::INLINEELINES) {
        let mut words =
            subsection.data.chunks_exact(4).filter_map(|word| Some(u32::from_le_bytes(word.try_into().ok()?)));
        // `CV_INLINEE_SOURCE_LINE_SIGNATURE_EX`: each entry lists further files.
        let is_extended = words.next() == Some(1);
        while let (Some(id), Some(file), Some(line)) = (words.next(), words.next(), words.next()) {
            found.entry(id).or_insert((file, line));
            if is_extended {
                let Some(count) = words.next() else { break };
                if count > 0 && words.nth(count as usize - 1).is_none() {
                    break;
                }
            }
        }
    }
    found
}

/// What the annotations of one call say, given the file and the line where the inlined function begins.
pub(crate) fn lines(annotations: &[u8], mut file: u32, first_line: u32) -> Vec<LineOfCode> {
    let mut numbers = Numbers(annotations);
    let mut rows: Vec<LineOfCode> = Vec::new();
    // Set while the last row waits for its end.
    let mut is_open = false;
    let (mut base, mut offset, mut line) = (0_u32, 0_u32, first_line);
    while let Some(opcode) = numbers.next() {
        // The operands as they come; an absent one ends the program.
        let Some(operand) = (match opcode {
            CODE_OFFSET..=CHANGE_COLUMN_END => numbers.next(),
            _ => None,
        }) else {
            break;
        };
        let mut begin = |offset: u32, line: u32, file: u32, length: Option<u32>, is_open: &mut bool| {
            let start = base.wrapping_add(offset);
            if let (true, Some(last)) = (*is_open, rows.last_mut()) {
                last.range.end = start;
            }
            let end = length.map_or(start, |length| start.saturating_add(length));
            rows.push(LineOfCode { range: start..end, file, line });
            *is_open = length.is_none();
        };
        match opcode {
            CODE_OFFSET => offset = operand,
            CHANGE_CODE_OFFSET_BASE => base = operand,
            CHANGE_CODE_OFFSET => {
                offset = offset.wrapping_add(operand);
                begin(offset, line, file, None, &mut is_open);
            }
            CHANGE_CODE_LENGTH => {
                if let (true, Some(last)) = (is_open, rows.last_mut()) {
                    last.range.end = last.range.start.saturating_add(operand);
                }
                is_open = false;
                offset = offset.wrapping_add(operand);
            }
            CHANGE_FILE => file = operand,
            CHANGE_LINE_OFFSET => line = line.wrapping_add_signed(signed(operand)),
            CHANGE_CODE_OFFSET_AND_LINE_OFFSET => {
                line = line.wrapping_add_signed(signed(operand >> 4));
                offset = offset.wrapping_add(operand & 0xf);
                begin(offset, line, file, None, &mut is_open);
            }
            CHANGE_CODE_LENGTH_AND_CODE_OFFSET => {
                let Some(delta) = numbers.next() else { break };
                offset = offset.wrapping_add(delta);
                begin(offset, line, file, Some(operand), &mut is_open);
            }
            // Ends of lines, kinds of ranges, columns.
            _ => {}
        }
    }
    rows.retain(|row| row.range.start < row.range.end);
    rows
}

const CODE_OFFSET: u32 = 1;
const CHANGE_CODE_OFFSET_BASE: u32 = 2;
const CHANGE_CODE_OFFSET: u32 = 3;
const CHANGE_CODE_LENGTH: u32 = 4;
const CHANGE_FILE: u32 = 5;
const CHANGE_LINE_OFFSET: u32 = 6;
const CHANGE_CODE_OFFSET_AND_LINE_OFFSET: u32 = 11;
const CHANGE_CODE_LENGTH_AND_CODE_OFFSET: u32 = 12;
const CHANGE_COLUMN_END: u32 = 13;

/// The lowest bit is the sign.
fn signed(operand: u32) -> i32 {
    let magnitude = (operand >> 1).cast_signed();
    if operand & 1 == 0 { magnitude } else { magnitude.wrapping_neg() }
}

/// Packed numbers: the high bits of the first byte tell whether there are one, two or four.
struct Numbers<'a>(&'a [u8]);

impl Iterator for Numbers<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let (value, rest) = match *self.0 {
            [a, ref rest @ ..] if a & 0x80 == 0 => (u32::from(a), rest),
            [a, b, ref rest @ ..] if a & 0xc0 == 0x80 => (u32::from_be_bytes([0, 0, a & 0x3f, b]), rest),
            [a, b, c, d, ref rest @ ..] if a & 0xe0 == 0xc0 => (u32::from_be_bytes([a & 0x1f, b, c, d]), rest),
            _ => return None,
        };
        self.0 = rest;
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(range: Range<u32>, line: u32) -> LineOfCode {
        LineOfCode { range, file: 8, line }
    }

    #[test]
    fn moves_code_and_line_along() {
        // +4 and 1 line on; +3, 2 lines back; the last is 5 bytes long. Padded with zeros to a full word.
        let annotations = [11, (2 << 4) | 4, 11, (5 << 4) | 3, 4, 5, 0, 0];
        assert_eq!(lines(&annotations, 8, 10), [row(4..7, 11), row(7..12, 9)]);
    }

    #[test]
    fn a_gap_ends_a_row_at_its_length() {
        // Begins at 0x90, in two bytes; 2 bytes long; then 0x10 behind its end, again 2 bytes.
        let annotations = [3, 0x80, 0x90, 4, 2, 3, 0x10, 4, 2];
        assert_eq!(lines(&annotations, 8, 10), [row(0x90..0x92, 10), row(0xa2..0xa4, 10)]);
        assert_eq!(lines(&[6, 4, 12, 3, 7], 8, 10), [row(7..10, 12)]);
    }

    #[test]
    fn damage_ends_the_program() {
        assert_eq!(lines(&[3], 8, 10), []);
        assert_eq!(lines(&[0xff, 0xff, 3, 4], 8, 10), []);
        assert_eq!(lines(&[12, 0xdf, 0xff, 0xff, 0xff, 4], 8, u32::MAX), [row(4..0x2000_0003, u32::MAX)]);
        assert_eq!(lines(&[99, 1, 3, 4, 4, 4], 8, 10), []);
    }
}
