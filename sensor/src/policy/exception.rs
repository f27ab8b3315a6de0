//! Exceptions: what a rule doesn't apply to, why, and until when.

use std::ffi::OsStr;
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;

use globset::GlobMatcher;
use ipnet::IpNet;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::program::glob_of;
use crate::event::{Act, ActKind, Artifact};

/// All conditions that are given have to fit; an exception without any is an error.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exception {
    /// Under `exceptions`: the ids of the rules that it is for; none: all.
    #[serde(default)]
    pub rules: Vec<String>,
    /// Path of the model; `**` crosses folders. A path can be forged by whoever may write there: prefer `sha256`.
    #[serde(default)]
    pub path: Option<Pattern>,
    /// Path of the program: the one that was started, else the acting one.
    #[serde(default)]
    pub exe: Option<Pattern>,
    /// Path of the file that was read or written.
    #[serde(default)]
    pub file: Option<Pattern>,
    /// Container image. Never fits where the image isn't known.
    #[serde(default)]
    pub image: Option<Pattern>,
    /// Hex, of the model. Fits only where the hash was computed.
    #[serde(default)]
    pub sha256: Option<String>,
    #[serde(default)]
    pub destination: Option<DestinationPattern>,
    /// Why: for the one who finds it in a year.
    pub reason: String,
    /// The last day (UTC) on which it applies.
    pub expires: Day,
}

/// A destination: all that is given has to fit.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DestinationPattern {
    pub cidr: Option<Net>,
    pub port: Option<u16>,
    /// The domain and everything below it.
    pub domain: Option<String>,
}

impl Exception {
    /// Faults that the types can't say.
    pub fn fault(&self) -> Option<String> {
        if self.reason.trim().is_empty() {
            return Some("an exception needs a `reason`".into());
        }
        let destination_is_empty = self
            .destination
            .as_ref()
            .is_none_or(|place| place.cidr.is_none() && place.port.is_none() && place.domain.is_none());
        let conditions =
            [self.path.is_some(), self.exe.is_some(), self.file.is_some(), self.image.is_some(), self.sha256.is_some()];
        if destination_is_empty && !conditions.contains(&true) {
            return Some("an exception needs a condition: path, exe, file, image, sha256 or destination".into());
        }
        let is_hash = |text: &String| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if self.sha256.as_ref().is_some_and(|text| !is_hash(text)) {
            return Some("`sha256` has to be 64 hexadecimal digits".into());
        }
        None
    }

    /// Is its time over at `unix_ns`?
    pub fn is_expired(&self, unix_ns: i128) -> bool {
        self.expires.is_over(unix_ns)
    }

    /// Does it excuse `act` as far as `artifact` is concerned?
    pub fn applies(&self, act: &Act, artifact: &Artifact) -> bool {
        let exe = match &act.kind {
            ActKind::Exec { exe, .. } => exe,
            _ => &act.lineage.process.exe,
        };
        !self.is_expired(act.time_unix_ns)
            && self.path.as_ref().is_none_or(|path| path.is_match(&artifact.model.path))
            && self.exe.as_ref().is_none_or(|pattern| pattern.is_match(exe))
            && self.file.as_ref().is_none_or(|pattern| match &act.kind {
                ActKind::File { path, .. } => pattern.is_match(path),
                _ => false,
            })
            // No act carries its image yet, so such an exception excuses nothing.
            && self.image.is_none()
            && self.sha256.as_ref().is_none_or(|wanted| {
                artifact.model.sha256.as_ref().is_some_and(|hash| hash.eq_ignore_ascii_case(wanted))
            })
            && self.destination.as_ref().is_none_or(|pattern| {
                act.kind.destination().is_some_and(|destination| pattern.fits(destination))
            })
    }
}

/// A glob of paths or names: `*` stays within a component, `**` crosses them.
#[derive(Debug, Clone)]
pub struct Pattern(GlobMatcher);

impl Pattern {
    /// Compares bytes: a path needn't be text.
    pub fn is_match(&self, bytes: &[u8]) -> bool {
        self.0.is_match(OsStr::from_bytes(bytes))
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let glob = glob_of(&text, true).map_err(|error| D::Error::custom(format!("{text:?} is no glob: {error}")))?;
        Ok(Self(glob.compile_matcher()))
    }
}

/// A network; an address is a network of its own.
#[derive(Debug, Clone, Copy)]
pub struct Net(pub IpNet);

impl Net {
    /// IPv4 in IPv6 clothes counts as IPv4.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.0.contains(&ip.to_canonical())
    }
}

impl<'de> Deserialize<'de> for Net {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse::<IpNet>()
            .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
            .map(Self)
            .map_err(|_| D::Error::custom(format!("{text:?} is no network such as 10.0.0.0/8 or fd00::/8")))
    }
}

/// A day in UTC.
#[derive(Debug, Clone, Copy)]
pub struct Day {
    pub date: jiff::civil::Date,
    /// Midnight after it, ns since the epoch.
    end_unix_ns: i128,
}

impl Day {
    /// Is it over at `unix_ns`, ns since the epoch?
    pub fn is_over(&self, unix_ns: i128) -> bool {
        unix_ns >= self.end_unix_ns
    }
}

impl<'de> Deserialize<'de> for Day {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let no_day = || D::Error::custom(format!("{text:?} is no day such as 2027-06-30"));
        let date: jiff::civil::Date = text.parse().map_err(|_| no_day())?;
        let next = date.tomorrow().map_err(|_| no_day())?;
        let end = jiff::tz::Offset::UTC.to_timestamp(next.at(0, 0, 0, 0)).map_err(|_| no_day())?;
        Ok(Self { date, end_unix_ns: end.as_nanosecond() })
    }
}
