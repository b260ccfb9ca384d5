//! What rules have counted, kept over a change of the configuration.

use std::sync::Arc;

/// States by rule and owner; those of the plan before are taken over where nothing changed.
#[derive(Debug)]
pub(crate) struct Pool<R, S>(Vec<Entry<R, S>>);

#[derive(Debug)]
struct Entry<R, S> {
    /// Index of the method, or `None` for a state that the methods of the service share.
    owner: Option<usize>,
    rule: R,
    state: Arc<S>,
}

impl<R, S> Default for Pool<R, S> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<R: PartialEq + Clone, S> Pool<R, S> {
    /// Returns the state of `rule` for `owner`: one already here, that of `before`, or a new one.
    pub(crate) fn state(
        &mut self,
        before: Option<&Self>,
        owner: Option<usize>,
        rule: &R,
        make: impl FnOnce() -> Option<S>,
    ) -> Option<Arc<S>> {
        if let Some(state) = self.find(owner, rule) {
            return Some(state);
        }
        let state = before
            .and_then(|before| before.find(owner, rule))
            .or_else(|| make().map(Arc::new))?;
        self.0.push(Entry {
            owner,
            rule: rule.clone(),
            state: state.clone(),
        });
        Some(state)
    }

    fn find(&self, owner: Option<usize>, rule: &R) -> Option<Arc<S>> {
        let found = self.0.iter().find(|entry| entry.owner == owner && entry.rule == *rule);
        found.map(|entry| entry.state.clone())
    }
}
