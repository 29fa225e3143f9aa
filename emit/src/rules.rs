//! What the author of a patch answers for: reasons against patching that a rule takes away, and what happens to the variable instead.
//!
//! Only reasons about the *state* of the running process can be answered for. That a reference is not understood, or an entry too short for
//! a jump, no word of an author changes.

use std::fmt;

use hpgen_diff::change_set::Reason;
use serde::{Deserialize, Serialize};

/// What to do instead of a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Nothing: the process keeps what it has, and the new code copes with it.
    Keep,
    /// The variable gets its new initial value together with the new code.
    Set,
    /// A hook of the new build sees to it.
    Hook,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Action::Keep => "keep",
            Action::Set => "set",
            Action::Hook => "hook",
        })
    }
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The symbol or type that the reason names.
    pub symbol: String,
    /// The reason's code; every reason about the symbol where none is given.
    #[serde(default)]
    pub reason: Option<String>,
    /// What to do instead.
    pub action: Action,
    /// The author's words, for the report.
    #[serde(default)]
    pub why: Option<String>,
}

/// A reason that a rule took away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Accepted {
    /// The reason.
    #[serde(flatten)]
    pub reason: Reason,
    /// What is done instead.
    pub action: Action,
    /// The author's words.
    pub why: Option<String>,
}

/// A rule that cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// The reason is none that an author can answer for in that way.
    #[error("the rule for {symbol} cannot be followed: `{action}` is no answer to [{code}]{}", allowed(code))]
    Unfit {
        /// The symbol.
        symbol: String,
        /// The reason's code.
        code: &'static str,
        /// What the rule asks for.
        action: Action,
    },
    /// No hook is there to see to it.
    #[error(
        "the rule for {0} counts on a hook, and the new build has none: define `int hpgen_pre_apply(void)` or another hook"
    )]
    NoHook(String),
}

/// The answers that a kind of reason allows.
fn actions(code: &str) -> &'static [Action] {
    match code {
        "data-initialiser" => &[Action::Keep, Action::Set, Action::Hook],
        "type-layout"
        | "dynamic-initialiser"
        | "vtable-changed"
        | "constant-without-user"
        | "constant-identity"
        | "constant-extent"
        | "export-changed"
        | "variable-extent"
        | "import-moved"
        | "signature-changed"
        | "callback-replaced"
        | "enumerator-renumbered"
        | "resource-changed"
        | "table-entry"
        | "types-unknown"
        | "variable-exchanged" => &[Action::Keep, Action::Hook],
        _ => &[],
    }
}

fn allowed(code: &str) -> String {
    match actions(code) {
        [] => ", which needs another build or a restart".to_owned(),
        actions => {
            format!(", which allows {}", actions.iter().map(Action::to_string).collect::<Vec<_>>().join(", "))
        }
    }
}

/// Takes away the reasons that rules answer for.
///
/// # Errors
/// When a rule asks for what cannot be.
pub fn accept(reasons: &mut Vec<Reason>, rules: &[Rule], has_hooks: bool) -> Result<Vec<Accepted>, RuleError> {
    let mut accepted = Vec::new();
    let mut open = Vec::new();
    for reason in std::mem::take(reasons) {
        let applies =
            |rule: &&Rule| rule.symbol == reason.symbol && rule.reason.as_ref().is_none_or(|code| code == reason.code);
        let Some(rule) = rules.iter().find(applies) else {
            open.push(reason);
            continue;
        };
        if !actions(reason.code).contains(&rule.action) {
            // A rule for all reasons of a symbol answers for those that it can.
            if rule.reason.is_none() && actions(reason.code).is_empty() {
                open.push(reason);
                continue;
            }
            return Err(RuleError::Unfit { symbol: rule.symbol.clone(), code: reason.code, action: rule.action });
        }
        if rule.action == Action::Hook && !has_hooks {
            return Err(RuleError::NoHook(rule.symbol.clone()));
        }
        accepted.push(Accepted { reason, action: rule.action, why: rule.why.clone() });
    }
    *reasons = open;
    Ok(accepted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(code: &'static str) -> Reason {
        Reason { code, symbol: "limit".to_owned(), message: String::new() }
    }

    fn rule(reason: Option<&str>, action: Action) -> Rule {
        Rule { symbol: "limit".to_owned(), reason: reason.map(str::to_owned), action, why: None }
    }

    fn accept_one(code: &'static str, rule: Rule, has_hooks: bool) -> Result<usize, RuleError> {
        let mut reasons = vec![reason(code)];
        accept(&mut reasons, &[rule], has_hooks).map(|accepted| {
            assert_eq!(accepted.len() + reasons.len(), 1, "neither lost nor doubled");
            accepted.len()
        })
    }

    #[test]
    fn state_can_be_answered_for_and_nothing_else() {
        for action in [Action::Keep, Action::Set, Action::Hook] {
            assert_eq!(accept_one("data-initialiser", rule(None, action), true), Ok(1));
            for code in ["unresolved-reference", "unproven-reference", "function-too-short", "data-resized"] {
                assert_eq!(accept_one(code, rule(None, action), true), Ok(0), "{code}");
                accept_one(code, rule(Some(code), action), true).unwrap_err();
            }
        }
        assert_eq!(accept_one("type-layout", rule(None, Action::Keep), false), Ok(1));
        accept_one("type-layout", rule(None, Action::Set), true).unwrap_err();
    }

    #[test]
    fn a_rule_is_for_its_symbol_and_its_reason() {
        assert_eq!(accept_one("data-initialiser", rule(Some("type-layout"), Action::Keep), true), Ok(0));
        let other = Rule { symbol: "limits".to_owned(), ..rule(None, Action::Keep) };
        assert_eq!(accept_one("data-initialiser", other, true), Ok(0));
    }

    #[test]
    fn a_hook_must_be_there() {
        let error = accept_one("data-initialiser", rule(None, Action::Hook), false).unwrap_err();
        assert_eq!(error, RuleError::NoHook("limit".to_owned()));
    }
}
