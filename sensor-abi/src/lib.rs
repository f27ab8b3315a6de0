//! The bytes that cross the kernel/user boundary: map keys and values, ring records, load-time constants.
//!
//! Both halves compile this crate. Nothing here has a pointer, a `bool`, an enum or hidden padding: every bit pattern
//! is a valid value, so userspace can look at hostile or torn bytes without undefined behaviour, and meanings are
//! checked by the decoder. [`ABI_VERSION`] changes with any change of layout.

#![no_std]

pub mod act;
pub mod config;
pub mod counter;
pub mod identity;
pub mod mark;
pub mod name;
pub mod record;

/// Version of every layout in this crate. Written into each record; also part of the pin folder's name.
pub const ABI_VERSION: u16 = 2;
