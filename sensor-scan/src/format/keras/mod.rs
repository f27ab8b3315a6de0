//! Keras: the configuration of a model, wherever it stands (`config.json` of a `.keras` archive, attributes of an HDF5
//! file, `keras_metadata.pb`, a JSON file), and what of it runs code.
//!
//! Who executes what: keras 2 and keras 3 with `safe_mode=False` run marshalled code (CVE-2024-3660), for `.h5` files every
//! version before 3.11.3 does (CVE-2025-9905); keras 3.0 to 3.8 import any module and call any function that the
//! configuration names (CVE-2025-1550); up to 3.11 functions of keras itself suffice (CVE-2025-8747, -9906); paths and URLs
//! among operands are opened (CVE-2025-12058, CVE-2026-1462); `TorchModuleWrapper` unpickles (CVE-2025-49655).

pub mod config;
mod module;

use crate::context::{Context, Piece};
use crate::format::protobuf::Message;
use crate::format::{self, Seen};
use crate::report::Content;
use crate::window::Window;

/// Bytes of one node's configuration.
const CONFIG_BYTES_MAX: usize = 4 << 20;

/// Whether the bytes are the `SavedMetadata` that tf_keras puts beside a SavedModel: nodes with an identifier of keras.
pub fn claims(window: &Window<'_>) -> bool {
    Message::whole(window)
        .fields()
        .take(4)
        .any(|field| field.number == 1 && field.message().and_then(|node| node.last(4)).is_some_and(is_identifier))
}

fn is_identifier(text: Message<'_, '_>) -> bool {
    text.text(64).starts_with("_tf_keras")
}

/// `keras_metadata.pb`.
pub fn scan(piece: &Piece<'_>, context: &mut Context<'_>) -> Seen {
    let window = Window::new(piece.source);
    let mut fields = Message::whole(&window).fields();
    for field in fields.by_ref().filter(|field| field.number == 1) {
        if context.expired() {
            break;
        }
        for metadata in field.message().into_iter().flat_map(|node| node.each(5)) {
            let name = format::member(piece.member.as_deref(), format!("node at {}", field.at).as_bytes());
            config::scan_text(&metadata.bytes(CONFIG_BYTES_MAX), Some(&name), context);
        }
    }
    if fields.is_broken() {
        format::tail(piece, fields.at(), context);
    }
    Seen { format: "keras-metadata", content: Content::Code }
}
