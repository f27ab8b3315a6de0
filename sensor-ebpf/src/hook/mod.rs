//! One file per kernel event. Each entry point is a few lines; a hook that fails on its own lets the kernel go on.

mod accept;
mod access;
mod bind;
mod call;
mod canary;
mod connect;
mod exec;
mod exit;
mod fork;
mod inherit;
mod iterate;
mod open;
mod packet;
mod receive;
mod send;
mod socket;
mod system;
mod tcp;
mod unix;
