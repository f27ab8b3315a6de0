//! The OCI image layout around one layer: config, manifest and index as JSON, every blob named by its SHA-256.

use serde_json::{Value, json};

use super::tar::Archive;
use crate::tool::sha256;

const NAME: &str = "localhost/sensor";
/// No time of day: it would be the only byte that differs between two builds.
const CREATED: &str = "1970-01-01T00:00:00Z";

/// The whole image as one tar file. `layer` is a tar file itself, uncompressed.
pub fn write(layer: &[u8], version: &str) -> Vec<u8> {
    let annotations = json!({
        "org.opencontainers.image.title": "sensor",
        "org.opencontainers.image.description": "Egress-monitoring eBPF sensor for machines that load ML models",
        "org.opencontainers.image.licenses": "(Apache-2.0 OR MIT) AND (MIT OR GPL-2.0-only)",
        "org.opencontainers.image.version": version,
    });
    let config = blob(&json!({
        "created": CREATED,
        "architecture": architecture(),
        "os": "linux",
        "config": {
            "Entrypoint": ["/sensor"],
            "Cmd": ["run", "--output", "jsonl"],
            "WorkingDir": "/",
            "StopSignal": "SIGTERM",
            "Labels": annotations,
        },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", sha256(layer))] },
        "history": [{ "created": CREATED, "created_by": "cargo xtask image" }],
    }));
    let manifest = blob(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", layer)],
        "annotations": annotations,
    }));
    let mut named = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
    named["platform"] = json!({ "architecture": architecture(), "os": "linux" });
    named["annotations"] = json!({
        "io.containerd.image.name": format!("{NAME}:{version}"),
        "org.opencontainers.image.ref.name": version,
    });
    let index = blob(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [named],
    }));

    let mut blobs = [layer, &config, &manifest].map(|bytes| (sha256(bytes), bytes));
    blobs.sort();
    let mut archive = Archive::default();
    archive.file("oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#);
    archive.file("index.json", 0o644, &index);
    archive.folder("blobs", 0o755);
    archive.folder("blobs/sha256", 0o755);
    for (name, bytes) in blobs {
        archive.file(&format!("blobs/sha256/{name}"), 0o644, bytes);
    }
    archive.finish()
}

/// Keys in a fixed order: serde_json sorts them.
fn blob(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

fn descriptor(kind: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": kind, "digest": format!("sha256:{}", sha256(bytes)), "size": bytes.len() })
}

/// As Go names it, which is what the image specification wants.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_layer_gives_the_same_image() {
        let image = write(b"layer", "1.2.3");
        assert_eq!(image, write(b"layer", "1.2.3"));
        assert_ne!(image, write(b"other", "1.2.3"));
    }

    #[test]
    fn every_descriptor_names_a_blob_that_is_there() {
        let image = write(b"layer", "1.2.3");
        let text = String::from_utf8_lossy(&image);
        let digests: Vec<&str> = text.split("\"digest\":\"sha256:").skip(1).filter_map(|rest| rest.get(..64)).collect();
        assert_eq!(digests.len(), 3);
        for digest in digests {
            assert!(text.contains(&format!("blobs/sha256/{digest}\0")), "{digest}");
        }
    }
}
