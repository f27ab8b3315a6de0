//! The JSON Schemas of the repository, which outputs are held to.

use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;

pub struct Schema(jsonschema::Validator);

impl Schema {
    /// `schemas/NAME.schema.json`
    pub fn named(name: &str) -> Result<Self> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas").join(format!("{name}.schema.json"));
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let schema: Value = serde_json::from_str(&text).with_context(|| format!("{} is no JSON", path.display()))?;
        Ok(Self(jsonschema::validator_for(&schema).map_err(|error| anyhow!("{}: {error}", path.display()))?))
    }

    /// The text as JSON that fits; an error says where it doesn't.
    pub fn read(&self, text: &str) -> Result<Value> {
        let json: Value = serde_json::from_str(text).with_context(|| format!("no JSON: {text}"))?;
        let faults: Vec<String> =
            self.0.iter_errors(&json).map(|fault| format!("{}: {fault}", fault.instance_path())).collect();
        ensure!(faults.is_empty(), "not as the schema says: {}\n{text}", faults.join("; "));
        Ok(json)
    }
}
