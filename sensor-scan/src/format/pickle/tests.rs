//! The machine on small hand-written streams.
