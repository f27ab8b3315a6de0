//! What is known: the table of Python names, and the manual of every finding.

pub mod globals;
