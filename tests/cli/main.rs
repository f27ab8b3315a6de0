//! The command line as its users meet it: the built binary, real files, exit statuses, and every output held to its
//! schema.

mod consumers;
mod hostile;
mod itself;
mod provenance;
mod reports;
mod scan;
mod support;
