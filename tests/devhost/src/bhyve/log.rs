// SPDX-License-Identifier: BSD-2-Clause

//! Lines for the operator: to standard error, or to a test that collects them.

use super::ffi;
use std::cell::RefCell;
use std::ffi::{CStr, c_char};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError, Weak};

type Lines = Mutex<Vec<String>>;

static CAPTURES: Mutex<Vec<Weak<Lines>>> = Mutex::new(Vec::new());

thread_local! {
    /// What this thread's device start has said so far.
    static START: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

extern "C" fn sink(line: *const c_char) {
    // SAFETY: the stand-in passes a C string that lives over the call.
    let line = unsafe { CStr::from_ptr(line) }.to_string_lossy().into_owned();
    let mut taken = false;
    lock(&CAPTURES).retain(|capture| {
        let Some(lines) = capture.upgrade() else { return false };
        lock(&lines).push(line.clone());
        taken = true;
        true
    });
    taken |= START
        .try_with(|start| match start.try_borrow_mut().as_deref_mut() {
            Ok(Some(lines)) => {
                lines.push(line.clone());
                true
            }
            _ => false,
        })
        .unwrap_or(false);
    if !taken {
        eprintln!("{line}");
    }
}

/// Takes the place of the stand-in's own printing.
pub(super) fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // SAFETY: the function lives as long as the program.
        unsafe { ffi::devhost_log_set(Some(sink)) }
    });
}

/// Runs `start` and returns with its result what this thread said meanwhile.
pub(super) fn during<T>(start: impl FnOnce() -> T) -> (T, Vec<String>) {
    install();
    START.with(|lines| *lines.borrow_mut() = Some(Vec::new()));
    let result = start();
    let lines = START.with(|lines| lines.borrow_mut().take()).unwrap_or_default();
    (result, lines)
}

/// Collects the lines of all threads of the process for as long as it lives;
/// they do not go to standard error then.
pub struct LogCapture(Arc<Lines>);

impl LogCapture {
    /// Starts to collect.
    pub fn start() -> LogCapture {
        install();
        let lines = Arc::new(Mutex::new(Vec::new()));
        lock(&CAPTURES).push(Arc::downgrade(&lines));
        LogCapture(lines)
    }

    /// What was said since the start.
    pub fn lines(&self) -> Vec<String> {
        lock(&self.0).clone()
    }
}
