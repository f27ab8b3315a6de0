//! Configuration: [`options`] is what was written, [`settings`] what it means.
//!
//! Precedence: flag, environment, file, default.

pub mod options;
pub mod settings;

use std::path::PathBuf;

/// Where the file is when nobody says otherwise.
pub const DEFAULT_PATH: &str = "/etc/sensor/sensor.toml";

/// Why there are no settings. Each message says where and what to change; all end the program with status 2.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read {}: {error}", path.display())]
    Read { path: PathBuf, error: std::io::Error },
    #[error("{}{place}: {message}", path.display())]
    File { path: PathBuf, place: String, message: String },
    #[error("environment variable {variable}: {message}")]
    Variable { variable: String, message: String },
    #[error("{0}")]
    Value(String),
}
