//! What the policy says about the kernel's records while they are taken: questions that the kernel, or the process table, has
//! to have an answer to.

use super::record::{Argv, Executable};
use crate::event::{Access, Role};

/// How an executable's role is decided.
pub type Decide = Box<dyn Fn(&Executable) -> Role + Send>;

/// Does the kernel have to look at this executable, whenever it opens a model, as at one that opens files for others?
pub type Carries = Box<dyn Fn(&Executable) -> bool + Send>;

/// Is what this executable was started with a script that is called like one that reads files for a living?
pub type NamesReader = Box<dyn Fn(&Executable, &Argv) -> bool + Send>;

/// Does a file at this path give its user away?
pub type Telling = Box<dyn Fn(&[u8], Access) -> bool + Send>;

/// What the policy says about the records.
pub struct Deciders {
    pub role: Decide,
    pub carries: Carries,
    pub script: NamesReader,
    pub telling: Telling,
}
