//! Strings, iterators, errors.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::num::ParseIntError;

use crate::mix;

/// Why a word is no number.
#[derive(Debug)]
pub enum Failure {
    Empty,
    Number(ParseIntError),
}

impl Failure {
    /// A number for each kind of failure.
    pub fn code(&self) -> u64 {
        match self {
            Failure::Empty => 1,
            Failure::Number(error) => error.to_string().len() as u64,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Empty => f.write_str("there is nothing"),
            Failure::Number(error) => write!(f, "no number: {error}"),
        }
    }
}

impl From<ParseIntError> for Failure {
    fn from(error: ParseIntError) -> Self {
        Failure::Number(error)
    }
}

/// Reads a number.
pub fn parse(text: &str) -> Result<u64, Failure> {
    if text.is_empty() {
        return Err(Failure::Empty);
    }
    Ok(text.parse::<u64>()?)
}

/// All words so far, and the last few in their order.
#[derive(Default)]
pub struct Words {
    all: BTreeSet<String>,
    last: VecDeque<String>,
}

impl Words {
    /// Adds the words of a text.
    pub fn add(&mut self, text: &str) {
        for word in text.split_whitespace().map(str::to_lowercase) {
            if self.last.len() == 8 {
                self.last.pop_front();
            }
            self.last.push_back(word.clone());
            self.all.insert(word.chars().rev().filter(|c| c.is_alphanumeric()).collect());
        }
    }

    /// How many different ones there were.
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// The longest of the last ones.
    pub fn longest(&self) -> Option<&str> {
        self.last.iter().map(String::as_str).max_by_key(|word| (word.len(), *word))
    }

    /// A checksum; words that are numbers count as such.
    pub fn sum(&self) -> u64 {
        let value = |word: &String| parse(word).unwrap_or_else(|failure| failure.to_string().len() as u64);
        self.all.iter().map(value).fold(self.all.len() as u64, mix)
    }
}
