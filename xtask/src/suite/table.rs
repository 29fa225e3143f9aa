//! What a suite prints: one row for each program, configuration and variant.

use std::time::Duration;

/// One row.
#[derive(Debug, Clone, Default)]
pub struct Row {
    /// Program, configuration, variant, where the references come from.
    pub labels: [String; 4],
    /// Functions that were compared.
    pub functions: usize,
    /// Functions that were found to differ.
    pub changed: usize,
    /// Functions with something that was not understood.
    pub unresolved: usize,
    /// Functions in one of the builds only, without those that the variant brings.
    pub unpaired: usize,
    /// Data and reasons against patching; all the rest that should be empty.
    pub others: usize,
    /// How long loading and comparing took.
    pub time: Duration,
    /// What was found, a line each.
    pub findings: Vec<String>,
}

impl Row {
    /// Whether nothing was found.
    pub fn is_clean(&self) -> bool {
        self.changed + self.unresolved + self.unpaired + self.others == 0
    }

    /// Adds another row's numbers.
    pub fn add(&mut self, other: Row) {
        self.functions += other.functions;
        self.changed += other.changed;
        self.unresolved += other.unresolved;
        self.unpaired += other.unpaired;
        self.others += other.others;
        self.time += other.time;
        self.findings.extend(other.findings);
    }

    fn print(&self) {
        let [program, configuration, variant, source] = &self.labels;
        println!(
            "{program:<10} {configuration:<12} {variant:<16} {source:<8} {:>9} {:>8} {:>10} {:>9} {:>6} {:>7.2}",
            self.functions,
            self.changed,
            self.unresolved,
            self.unpaired,
            self.others,
            self.time.as_secs_f64()
        );
    }
}

/// Findings of a row that are shown.
const MAX_FINDINGS: usize = 20;

/// Prints the table, and then what each row that is not clean found.
pub fn print(rows: &[Row]) {
    println!(
        "{:<10} {:<12} {:<16} {:<8} {:>9} {:>8} {:>10} {:>9} {:>6} {:>7}",
        "program",
        "compiled",
        "variant",
        "source",
        "functions",
        "changed",
        "unresolved",
        "unpaired",
        "others",
        "seconds"
    );
    let mut total = Row { labels: ["total", "", "", ""].map(str::to_owned), ..Row::default() };
    for row in rows {
        row.print();
        total.add(Row { findings: Vec::new(), ..row.clone() });
    }
    total.print();
    for row in rows.iter().filter(|row| !row.is_clean()) {
        println!("\n{}:", row.labels.join(", "));
        for finding in row.findings.iter().take(MAX_FINDINGS) {
            println!("  {finding}");
        }
        if let Some(more) = row.findings.len().checked_sub(MAX_FINDINGS).filter(|more| *more > 0) {
            println!("  and {more} more");
        }
    }
}
