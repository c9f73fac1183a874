//! What the configuration names, once that has changed.

use serde_json::Value as Json;

use super::record::State;
use super::start::{diagnostics_of, named};
use super::{Failure, Origin, Proposal, Record, Rollout};
use crate::config::{self, Config, Diagnostics, SourceMap};
use crate::policy::{Kind, LoadError};

impl Rollout {
    /// Takes over what the configuration names, where that has changed. With `asked`, also what was
    /// refused before.
    pub(crate) async fn reload(&self, new: Option<&(Config, SourceMap)>, asked: bool) {
        let _reloading = self.reloading.lock().await;
        for kind in Kind::ALL {
            let (policy, other_cases) = self.with_book(kind, |book| {
                let mut other_cases = false;
                if let Some((config, _)) = new {
                    let named = config.policy(kind);
                    other_cases = book.policy.cases != named.cases;
                    if other_cases {
                        tracing::info!(
                            policy = kind.name(),
                            "the configuration's cases have changed: the next version is tried by them"
                        );
                    }
                    book.policy.component = named.component.clone();
                    book.policy.config = named.config.clone();
                    book.policy.cases = named.cases.clone();
                }
                (book.policy.clone(), other_cases)
            });
            let (source, beside) = match named(&policy).await {
                (Ok(source), beside) => (source, beside),
                (Err(error), _) => {
                    let policy = kind.name();
                    tracing::error!(policy, %error, "what the configuration names is not there");
                    continue;
                }
            };
            let sha256 = source.sha256();
            let again = self.with_book(kind, |book| {
                let same = book.file_looked_at.as_deref() == Some(&*sha256);
                // Cases that are no good are told of when they are asked, and are others than none.
                let beside = beside.unwrap_or(Some(Json::Null));
                let others_beside = book.file.as_deref() == Some(&*sha256) && book.beside != beside;
                if others_beside {
                    tracing::info!(
                        policy = kind.name(),
                        "the cases beside the component have changed: the next version is tried by them"
                    );
                }
                book.file = Some(sha256.clone());
                book.beside = beside;
                let refused = book.records.iter().find(|it| it.sha256 == sha256);
                let refused = refused.filter(|it| it.state == State::Refused);
                let by_others =
                    |it: &Record| (other_cases || others_beside) && it.was_refused_by_cases();
                !same || refused.is_some_and(|it| asked || by_others(it))
            });
            if !again {
                continue;
            }
            let origin = match policy.component {
                config::Component::File(_) => Origin::File,
                _ => Origin::Builtin,
            };
            let proposed = self
                .propose(Proposal {
                    kind,
                    source,
                    cases: None,
                    origin,
                    by: None,
                    activate: true,
                    if_match: None,
                })
                .await;
            if let Err(failure @ Failure::Unable(_)) = &proposed {
                let policy = kind.name();
                tracing::error!(policy, %failure, "what the configuration names waits: SIGHUP, a change of it or a start tries it again");
                continue;
            }
            self.with_book(kind, |book| book.file_looked_at = Some(sha256));
            self.persist(kind).await;
            if let Err(Failure::Refused { errors, .. }) = &proposed
                && let Some((_, source)) = new
                && !errors.is_empty()
            {
                let errors = diagnostics_of(source, kind, LoadError::Config(errors.clone()));
                if let Some(wrong) = Diagnostics::of(errors) {
                    tracing::error!(policy = kind.name(), "nothing has changed:\n{wrong}");
                }
            }
        }
    }
}
