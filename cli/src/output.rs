//! Text for people: colours only where wanted, errors in one shape.

use std::fmt::Display;
use std::io::{IsTerminal, Write};

use anstyle::{AnsiColor, Style};

use crate::args::Color;

/// Emphasis of a heading.
pub const BOLD: Style = Style::new().bold();
/// Good news.
pub const GOOD: Style = AnsiColor::Green.on_default().bold();
/// Bad news.
pub const BAD: Style = AnsiColor::Red.on_default().bold();
/// Something to look at.
pub const NOTE: Style = AnsiColor::Yellow.on_default();
/// Less important.
pub const DIM: Style = Style::new().dimmed();

/// Sets what the user asked for; everything printed through `anstream` follows it.
pub fn set_color(color: Color) {
    match color {
        Color::Auto => anstream::ColorChoice::Auto,
        Color::Always => anstream::ColorChoice::Always,
        Color::Never => anstream::ColorChoice::Never,
    }
    .write_global();
}

/// Text in a style.
pub fn paint(style: Style, text: impl Display) -> String {
    format!("{style}{text}{style:#}")
}

/// Prints to standard output. A reader that went away (`hpgen … | head`) is no error.
pub fn print(text: &str) {
    let _ = anstream::stdout().lock().write_all(text.as_bytes());
}

/// Prints an error with its causes to standard error.
pub fn error(error: &anyhow::Error) {
    let mut text = format!("{} {error}", paint(BAD, "error:"));
    for cause in error.chain().skip(1) {
        text.push_str(&format!("\n  because: {cause}"));
    }
    refusal(&text);
}

/// Prints a finished message to standard error.
pub fn refusal(text: &str) {
    let _ = writeln!(anstream::stderr().lock(), "{text}");
}

/// Prints a value as JSON.
pub fn json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    print(&(serde_json::to_string_pretty(value)? + "\n"));
    Ok(())
}

/// A reason on a line of its own, behind a word that says what it is a reason for.
pub fn reason(word: &str, reason: &hpgen_diff::change_set::Reason) -> String {
    let code = paint(DIM, format!("[{}]", reason.code));
    format!("  {word} {}: {} {code}\n", paint(BOLD, &reason.symbol), reason.message)
}

/// Rows of columns, each as wide as its widest cell; the last is not filled up.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| rows.iter().filter_map(|row| row.get(column)).map(|cell| width(cell)).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::from(" ");
        for (cell, column_width) in row.iter().zip(&widths) {
            line.push(' ');
            line.push_str(cell);
            line.push_str(&" ".repeat(column_width - width(cell) + 1));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Characters that are seen: colour codes are not.
fn width(cell: &str) -> usize {
    anstream::adapter::strip_str(cell).to_string().chars().count()
}

/// Columns to print in: those of the terminal, within reason; 160 where the output goes elsewhere.
pub fn columns() -> usize {
    let terminal = std::io::stdout().is_terminal().then(terminal_size::terminal_size).flatten();
    terminal.map_or(160, |(width, _)| usize::from(width.0).clamp(80, 200))
}

/// A count with the right form of its noun.
pub fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// A time for people.
pub fn milliseconds(time: u32) -> String {
    humantime::format_duration(std::time::Duration::from_millis(time.into())).to_string()
}
