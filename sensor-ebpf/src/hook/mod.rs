//! One file per kernel event. Each entry point is a few lines; a hook that fails on its own lets the kernel go on.

mod access;
mod call;
mod canary;
mod connect;
mod exec;
mod exit;
mod fork;
mod iterate;
mod open;
mod send;
mod socket;
mod system;
