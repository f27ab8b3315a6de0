//! What a stream may cost: opcodes, time, values. Streams of any length are followed; what is forgotten is harmless, and
//! missing it is said.

use super::cursor::Break;
use super::machine::{CLOCK_OPCODES, Machine};

impl Machine<'_, '_, '_> {
    #[cold]
    pub(super) fn budget(&mut self) -> Result<(), Break> {
        let member = self.stream.member.as_deref();
        if self.context.opcodes_left < CLOCK_OPCODES {
            self.context.opcodes_left = 0;
            let max = self.context.limits.opcodes_max;
            self.context.limit_reached("opcodes_max", max, member, Some(self.at));
            return Err(Break::Limit);
        }
        self.context.opcodes_left -= CLOCK_OPCODES;
        let stack = (self.stack.len() + self.marks.len() + self.memo.sparse.len()) as u64;
        if stack > self.context.limits.values_max {
            self.context.limit_reached("values_max", self.context.limits.values_max, member, Some(self.at));
            return Err(Break::Limit);
        }
        if self.arena.used() >= self.forget_at {
            self.forget();
        }
        if self.arena.full() {
            self.lost_matters();
        }
        if self.context.expired() { Err(Break::Limit) } else { Ok(()) }
    }

    /// Half of the arena is taken: what is harmless and out of sight goes, so that the length of a stream has no limit.
    fn forget(&mut self) {
        let memo = self.memo.values().chain(self.previous.values()).chain(self.extensions.values().copied());
        let moved = self.arena.forget(&self.stack, memo);
        for id in self.stack.iter_mut().chain(self.extensions.values_mut()) {
            *id = moved.new_place(*id);
        }
        self.memo.renew(|id| moved.new_place(id));
        self.previous.renew(|id| moved.new_place(id));
        self.globals.moved(&moved);
        // Not again before twice as much is there: a look at everything has its price.
        self.forget_at = (2 * self.arena.used()).max(self.context.limits.values_max / 2);
    }

    /// A value that was not kept is needed: what the stream does with it is not known. Said once.
    #[cold]
    pub(super) fn lost_matters(&mut self) {
        if !std::mem::replace(&mut self.full, true) {
            let member = self.stream.member.as_deref();
            self.context.limit_reached("values_max", self.context.limits.values_max, member, Some(self.at));
        }
    }
}
