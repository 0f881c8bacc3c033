//! The generator and the devices under test, as child processes; nothing of them stays behind.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tokio::signal::unix::{SignalKind, signal};

/// How long a device may take to start.
const START: Duration = Duration::from_secs(20);
/// What the environment names the directory of DPDK's own files by.
const RUNTIME_DIRECTORY: &str = "RUNTIME_DIRECTORY";

/// Directories to remove if we are interrupted: nothing is dropped then.
static SCRATCHES: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
/// What else to do then.
static CHORES: Mutex<Vec<Chore>> = Mutex::new(Vec::new());
static WATCH: Once = Once::new();

type Chore = Box<dyn Fn() + Send>;

/// A directory for sockets and logs; gone with this value, or if we are interrupted.
pub(crate) struct Scratch(tempfile::TempDir);

impl Scratch {
    /// An empty one.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("kedge-perf-").tempdir()?;
        lock().push(directory.path().to_owned());
        watch();
        Ok(Self(directory))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        lock().retain(|path| path != self.0.path());
    }
}

/// Has `chore` done if we are interrupted, after the scratch directories are gone.
pub(crate) fn when_interrupted(chore: impl Fn() + Send + 'static) {
    CHORES
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(Box::new(chore));
    watch();
}

fn watch() {
    WATCH.call_once(|| {
        std::thread::spawn(clean_when_interrupted);
    });
}

/// A command that is told to end when we do, even if we are killed.
pub(crate) fn ends_with_us(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM"]).arg(program);
    command
}

/// The same, and what runs it makes room for everyone else on the machine.
pub(crate) fn in_background(program: impl AsRef<OsStr>) -> Command {
    let script = "echo 10 > /proc/self/autogroup 2> /dev/null; exec setpriv --pdeathsig TERM \"$@\"";
    let mut command = Command::new("setsid");
    command.args(["sh", "-c", script, "sh"]).arg(program);
    command
}

fn lock() -> std::sync::MutexGuard<'static, Vec<PathBuf>> {
    SCRATCHES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The children end by themselves when we do.
fn clean_when_interrupted() {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return;
    };
    let code = runtime.block_on(async {
        let (Ok(mut interrupt), Ok(mut terminate)) =
            (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
        else {
            return std::future::pending().await;
        };
        tokio::select! {
            _ = interrupt.recv() => 130,
            _ = terminate.recv() => 143,
        }
    });
    for path in lock().iter() {
        let _ = std::fs::remove_dir_all(path);
    }
    for chore in CHORES.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        chore();
    }
    std::process::exit(code);
}

/// What the scheduler has given to a thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scheduled {
    /// For how long it had a processor.
    pub(crate) ran: Duration,
    /// For how long it wanted one and had none.
    pub(crate) waited: Duration,
}

/// For how long the calling thread has wanted a processor so far and had none; zero, where the kernel does not say.
pub(crate) fn waited() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = text.split_whitespace().nth(1).and_then(|word| word.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or(0))
}

/// How many page faults the calling thread has had so far that nothing had to be read for; 0, where the kernel does not say.
pub(crate) fn faults() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/stat").unwrap_or_default();
    // The name in parentheses may have spaces; behind it this is the eighth number.
    let behind = text.rsplit(')').next().unwrap_or_default();
    let number = behind.split_whitespace().nth(7);
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// A child that ends with this value.
pub(crate) struct Process {
    child: Child,
    name: &'static str,
    log: PathBuf,
}

impl Process {
    /// Starts `program`; what it says goes to `log`.
    pub(crate) fn start(
        name: &'static str,
        program: &Path,
        arguments: &[String],
        log: &Path,
    ) -> anyhow::Result<Self> {
        let file = create(log)?;
        let mut command = command(program, arguments, log);
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file);
        Self::spawn(name, command, program, log)
    }

    /// Starts `program`, to talk to; its errors go to `log`.
    pub(crate) fn start_talking(
        name: &'static str,
        program: &Path,
        arguments: &[String],
        log: &Path,
    ) -> anyhow::Result<(Self, ChildStdin, ChildStdout)> {
        let mut command = command(program, arguments, log);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(create(log)?);
        let mut process = Self::spawn(name, command, program, log)?;
        let input = process.child.stdin.take().context("no standard input")?;
        let output = process.child.stdout.take().context("no standard output")?;
        Ok((process, input, output))
    }

    /// Starts `program`, to be told things; what it says goes to `log`.
    pub(crate) fn start_told(
        name: &'static str,
        program: &Path,
        arguments: &[String],
        log: &Path,
    ) -> anyhow::Result<(Self, ChildStdin)> {
        let file = create(log)?;
        let mut command = command(program, arguments, log);
        command
            .stdin(Stdio::piped())
            .stdout(file.try_clone()?)
            .stderr(file);
        let mut process = Self::spawn(name, command, program, log)?;
        let input = process.child.stdin.take().context("no standard input")?;
        Ok((process, input))
    }

    fn spawn(name: &'static str, mut command: Command, program: &Path, log: &Path) -> anyhow::Result<Self> {
        let child = command
            .spawn()
            .with_context(|| format!("{} cannot be started", program.display()))?;
        Ok(Self {
            child,
            name,
            log: log.to_owned(),
        })
    }

    /// Waits until `path` is there.
    pub(crate) fn wait_for(&mut self, path: &Path) -> anyhow::Result<()> {
        let start = Instant::now();
        while !path.exists() {
            ensure!(
                self.child.try_wait()?.is_none() && start.elapsed() < START,
                "{} was not made; {}",
                path.display(),
                self.said()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// What it printed, for errors.
    pub(crate) fn said(&self) -> String {
        format!("{} said:\n{}", self.name, self.printed().trim_end())
    }

    /// What it printed to its log.
    pub(crate) fn printed(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// What the scheduler has given so far to the thread whose name begins so, or to the main thread.
    pub(crate) fn scheduled(&self, thread: Option<&str>) -> anyhow::Result<Scheduled> {
        let process = self.child.id();
        let tasks = PathBuf::from(format!("/proc/{process}/task"));
        let task = match thread {
            None => Some(tasks.join(process.to_string())),
            Some(prefix) => std::fs::read_dir(&tasks)
                .with_context(|| tasks.display().to_string())?
                .filter_map(|task| Some(task.ok()?.path()))
                .find(|task| {
                    // A thread may have ended meanwhile.
                    std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name.starts_with(prefix))
                }),
        };
        let task = task.with_context(|| format!("{} has no thread {thread:?}", self.name))?;
        // `stat` counts ticks, in which one who sleeps whenever they come has never run.
        let text = std::fs::read_to_string(task.join("schedstat"))
            .with_context(|| format!("{} has ended, or this kernel counts no time", self.name))?;
        let mut numbers = text.split_whitespace().map_while(|word| word.parse().ok());
        let mut next = || numbers.next().map(Duration::from_nanos).context("schedstat");
        Ok(Scheduled {
            ran: next()?,
            waited: next()?,
        })
    }

    /// Ends it as its user would, and waits.
    pub(crate) fn stop(&mut self) {
        let process = self.child.id().to_string();
        for signal in ["-INT", "-KILL"] {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            // One that has ended by itself meanwhile is as good.
            let _ = Command::new("kill")
                .args([signal, &process])
                .stderr(Stdio::null())
                .status();
            let start = Instant::now();
            while start.elapsed() < Duration::from_secs(5) {
                if matches!(self.child.try_wait(), Ok(Some(_))) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

/// At a raised priority: with autogroup scheduling, `nice` would do nothing between sessions, so that a
/// build beside a bench would halve its figures. The process ends with us, even if we are killed.
fn command(program: &Path, arguments: &[String], log: &Path) -> Command {
    let script = "echo -15 > /proc/self/autogroup 2> /dev/null; exec setpriv --pdeathsig KILL \"$@\"";
    // A child of ours leads no process group, so setsid does not fork: the process stays ours to end.
    let mut command = Command::new("setsid");
    command
        .args(["sh", "-c", script, "sh"])
        .arg(program)
        .args(arguments);
    if let Some(directory) = log.parent() {
        command.env(RUNTIME_DIRECTORY, directory);
    }
    command
}

fn create(log: &Path) -> anyhow::Result<File> {
    File::create(log).with_context(|| format!("{} cannot be written", log.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(scratch: &Scratch, text: &str) -> Process {
        let arguments = ["-c".to_owned(), text.to_owned()];
        Process::start("sh", Path::new("sh"), &arguments, &scratch.path().join("log")).unwrap()
    }

    #[test]
    fn one_that_ends_too_early_says_why() {
        let scratch = Scratch::new().unwrap();
        let mut process = script(&scratch, "echo no such device; exit 1");
        let error = process.wait_for(&scratch.path().join("socket")).unwrap_err();
        assert!(error.to_string().contains("no such device"), "{error}");
    }

    #[test]
    fn processor_time_grows_while_a_process_works() {
        let scratch = Scratch::new().unwrap();
        let process = script(&scratch, "while :; do :; done");
        let start = Instant::now();
        // It has other names until it has become the shell that works.
        while process.scheduled(None).unwrap().ran < Duration::from_millis(1)
            || process.scheduled(Some("sh")).is_err()
        {
            assert!(start.elapsed() < Duration::from_secs(10));
            std::thread::sleep(Duration::from_millis(5));
        }
        let error = process.scheduled(Some("nobody")).unwrap_err();
        assert!(error.to_string().contains("nobody"), "{error}");
    }
}
