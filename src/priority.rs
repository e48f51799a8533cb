//! Work that leaves the processor to everything else: it runs when nothing else wants to.

use std::io;
use std::thread;

use tokio::sync::oneshot;

/// Runs `work` on a thread of its own, which has the lowest priority where the system gives threads
/// one. The answer never comes if the work panics.
pub(crate) fn run_low<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<oneshot::Receiver<T>> {
    let (reply, answer) = oneshot::channel();
    // Never a thread that others use afterwards: no thread may raise its priority again.
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        lower();
        // An error means that the caller is gone.
        let _ = reply.send(work());
    })?;
    Ok(answer)
}

/// On Linux, "this process" is the thread that asks. Elsewhere it would be all of them.
#[cfg(target_os = "linux")]
fn lower() {
    /// The lowest.
    const NICE: i32 = 19;
    // What is refused costs only speed.
    let _ = rustix::process::setpriority_process(None, NICE);
}

#[cfg(not(target_os = "linux"))]
const fn lower() {}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_its_own_thread_has_the_lowest_priority() {
        let own = || rustix::process::getpriority_process(None).unwrap();
        let before = own();
        assert_eq!(run_low("low", own).unwrap().await.unwrap(), 19);
        assert_eq!(own(), before);
    }
}
