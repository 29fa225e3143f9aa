//! Builds of test programs, and payloads made of them.

use std::path::{Path, PathBuf};

use hpgen_diff::change_set::ChangeSet;
use hpgen_diff::compare::Comparison;
use hpgen_diff::program::Program;
use hpgen_emit::build;
use hpgen_emit::plan::{Include, Plan};
use hpgen_runtime::format::{Payload, PayloadFile};
use hpgen_verify::{Report, verify};

/// Two builds with what is known of their difference.
pub struct Pair {
    pub old: Program,
    pub new: Program,
    pub comparison: Comparison,
    changes: ChangeSet,
}

impl Pair {
    pub fn load(old: &Path, new: &Path) -> Pair {
        let (old, new) = (Program::load(old, None).unwrap(), Program::load(new, None).unwrap());
        let comparison = Comparison::of(&old, &new);
        let changes = ChangeSet::of(&old, &new, &comparison);
        Pair { old, new, comparison, changes }
    }

    pub fn fixture(name: &str) -> Pair {
        let folder = fixtures().join(name);
        Pair::load(&folder.join("old.exe"), &folder.join("new.exe"))
    }

    /// The payload, as it reads back from its file; none where the plan was refused or is empty.
    pub fn payload(&self, all: bool) -> Option<Payload> {
        let plan = self.plan(&Include { all, ..Include::default() });
        if !plan.reasons.is_empty() { None } else { self.built(&plan) }
    }

    /// The payload with what is asked for.
    #[allow(dead_code, reason = "not every test asks for more")]
    pub fn payload_with(&self, include: &Include) -> Option<Payload> {
        self.built(&self.plan(include))
    }

    fn plan(&self, include: &Include) -> Plan {
        Plan::of(&self.old, &self.new, &self.comparison, &self.changes, include)
    }

    fn built(&self, plan: &Plan) -> Option<Payload> {
        if !plan.refusals.is_empty() || plan.functions.is_empty() {
            return None;
        }
        let payload = build::payload(&self.old, &self.new, plan).unwrap();
        let (file, _) = PayloadFile::decode(&build::file(&payload.into()).unwrap()).unwrap();
        file.payloads.into_iter().next()
    }

    pub fn verify(&self, payload: &Payload) -> Report {
        verify(payload, &self.old, &self.new, &self.comparison)
    }
}

/// Where the committed fixtures are.
pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/fixtures")
}
