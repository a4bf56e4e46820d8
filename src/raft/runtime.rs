//! Where a node's tasks run and where its chance comes from: tokio and the system's; or, within a
//! [`Process`](super::ports::Process), whatever that makes of them. openraft's own tasks are among them.

use std::future::{Future, pending};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt as _};
use openraft::AsyncRuntime;
use openraft_rt::OptionalSend;
use openraft_rt::deterministic_rng::DeterministicRng;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::ports::Process;

// Deprecated in favour of a crate of its own; one dependency fewer is worth it.
#[allow(deprecated)]
use openraft::impls::TokioRuntime;

tokio::task_local! {
    /// Inherited by each task that one of its tasks starts.
    static PROCESS: Arc<dyn Process>;
}

/// Runs `work`, and whatever it starts, in a process.
pub async fn within<F: Future>(process: Option<Arc<dyn Process>>, work: F) -> F::Output {
    match process {
        Some(process) => PROCESS.scope(process, work).await,
        None => work.await,
    }
}

/// What is to be spawned in place of `work`, in the process of the one that calls.
pub fn task(work: impl Future<Output = ()> + Send + 'static) -> BoxFuture<'static, ()> {
    match PROCESS.try_with(Arc::clone) {
        Ok(process) => process.task(PROCESS.scope(process.clone(), work).boxed()),
        Err(_) => work.boxed(),
    }
}

/// Starts a task in the process of the one that calls.
pub fn spawn<T>(task: T) -> JoinHandle<T::Output>
where
    T: Future + Send + 'static,
    T::Output: Send + 'static,
{
    let Ok(process) = PROCESS.try_with(Arc::clone) else { return tokio::spawn(task) };
    let (tell, mut told) = oneshot::channel();
    let work = async move {
        // Nobody may want to know.
        let _ = tell.send(task.await);
    };
    let work = process.task(PROCESS.scope(process.clone(), work).boxed());
    tokio::spawn(async move {
        work.await;
        match told.try_recv() {
            Ok(output) => output,
            // Its process is gone.
            Err(_) => pending().await,
        }
    })
}

/// The same in that process.
pub fn spawn_within<T>(process: Option<Arc<dyn Process>>, task: T) -> JoinHandle<T::Output>
where
    T: Future + Send + 'static,
    T::Output: Send + 'static,
{
    match process {
        Some(process) => PROCESS.sync_scope(process, || spawn(task)),
        None => tokio::spawn(task),
    }
}

/// Work that may take long without waiting: beside the tasks, where there is more than one thread to a process.
pub async fn long<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    match PROCESS.try_with(|_| ()) {
        Ok(()) => Ok(work()),
        Err(_) => tokio::task::spawn_blocking(work).await.map_err(io::Error::other),
    }
}

fn chance() -> u64 {
    PROCESS.try_with(|process| process.chance()).unwrap_or_else(|_| rand::random())
}

/// openraft's end of it.
pub struct Runtime(TokioRuntime);

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Runtime")
    }
}

/// The only generators of the library's `rand` that can be had without that very release of it.
type Seeded = DeterministicRng<TokioRuntime>;

impl AsyncRuntime for Runtime {
    type JoinError = <TokioRuntime as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = JoinHandle<T>;
    type Sleep = <TokioRuntime as AsyncRuntime>::Sleep;
    type Instant = <TokioRuntime as AsyncRuntime>::Instant;
    type TimeoutError = <TokioRuntime as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = <TokioRuntime as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = <Seeded as AsyncRuntime>::ThreadLocalRng;
    type Mpsc = <TokioRuntime as AsyncRuntime>::Mpsc;
    type Watch = <TokioRuntime as AsyncRuntime>::Watch;
    type Oneshot = <TokioRuntime as AsyncRuntime>::Oneshot;
    type Mutex<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::Mutex<T>;

    fn spawn<T>(future: T) -> JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        spawn(future)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        TokioRuntime::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        TokioRuntime::sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(
        duration: Duration,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        deadline: Self::Instant,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout_at(deadline, future)
    }

    fn is_panic(error: &Self::JoinError) -> bool {
        error.is_panic()
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        let generator = Seeded::scope(chance(), async { Seeded::thread_rng() });
        generator.now_or_never().expect("it waits for nothing")
    }

    fn new(threads: usize) -> Self {
        Runtime(TokioRuntime::new(threads))
    }

    fn block_on<F: Future<Output = T>, T>(&mut self, future: F) -> T {
        self.0.block_on(future)
    }
}
