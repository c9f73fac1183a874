//! Names into addresses, on the control thread: once before serving, then again and again.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use futures_util::future::join_all;

use super::Services;

/// Names are looked up anew so often.
const RESOLVE_EVERY: Duration = Duration::from_secs(30);

/// A look-up may take so long.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Looks up the names of all endpoints, once. `starting`: before anything is served.
pub(crate) async fn resolve(services: &Services, starting: bool) {
    let names = services.all.iter().flat_map(|service| {
        service.config.endpoints.iter().enumerate().map(move |(name, it)| (service, name, it))
    });
    join_all(names.map(|(service, name, it)| async move {
        let target = (&*it.host, it.port);
        let found = tokio::time::timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host(target)).await;
        let addresses: Vec<_> = match found {
            Ok(Ok(addresses)) => addresses.collect(),
            Ok(Err(error)) => {
                tracing::warn!(endpoint = &*it.url, %error, "cannot resolve");
                return; // What was known before is the better guess.
            }
            Err(_) => {
                tracing::warn!(endpoint = &*it.url, "resolving timed out");
                return;
            }
        };
        if !addresses.is_empty() && service.found(name, &addresses, services.now_ms(), starting) {
            services.moves.fetch_add(1, Relaxed);
            service.moved.notify_waiters();
        }
    }))
    .await;
}

/// Keeps the names' addresses current.
pub(crate) async fn keep_resolved(services: Arc<Services>) {
    loop {
        tokio::time::sleep(RESOLVE_EVERY).await;
        resolve(&services, false).await;
    }
}
