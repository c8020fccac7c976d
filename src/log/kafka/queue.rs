//! librdkafka's consumer queue, read in batches.
//!
//! rdkafka's own `poll` makes an event and an `Arc` for every record; the batch call of the C library gives a few
//! hundred records at a time.

use std::ffi::{CStr, c_char, c_void};
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::Arc;

use rdkafka::ClientContext;
use rdkafka::bindings as c;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};
use tokio::sync::Notify;

use super::client::Context;

/// Records taken at once.
const BATCH: usize = 256;
/// Events of the client taken at once.
const EVENTS: usize = 100;

/// The queue of a consumer, and the consumer it belongs to.
pub struct ConsumerQueue {
    queue: NonNull<c::rd_kafka_queue_t>,
    /// What concerns the client as a whole: log lines, and that brokers are away.
    main: NonNull<c::rd_kafka_queue_t>,
    // After `queue`, which Drop gives back first.
    consumer: Option<BaseConsumer<Context>>,
    notify: Arc<Notify>,
}

// SAFETY: librdkafka's queue handles may be used from any thread; the library locks them itself.
unsafe impl Send for ConsumerQueue {}
// SAFETY: as above; `drain`, the only method that takes records, wants `&mut self`.
unsafe impl Sync for ConsumerQueue {}

/// A record, or an event of a partition, while its batch is being read.
pub struct RawMessage<'a> {
    message: &'a c::rd_kafka_message_t,
    _batch: PhantomData<&'a ()>,
}

impl ConsumerQueue {
    /// The queue of a consumer with a group id (librdkafka makes one only then).
    pub fn new(consumer: BaseConsumer<Context>) -> Option<Self> {
        // SAFETY: the handle is valid while `consumer` lives; the returned queue is a counted reference.
        let queue = NonNull::new(unsafe { c::rd_kafka_queue_get_consumer(consumer.client().native_ptr()) })?;
        // SAFETY: as above. What it gets is no longer passed on to the consumer's queue, where the batch call would
        // print it on standard error.
        let main = NonNull::new(unsafe {
            let main = c::rd_kafka_queue_get_main(consumer.client().native_ptr());
            c::rd_kafka_queue_forward(main, std::ptr::null_mut());
            main
        })?;
        let notify = Arc::new(Notify::new());
        // SAFETY: the opaque pointer stays valid until Drop switches the callback off, because `self.notify`
        // keeps the Notify alive; the callback only notifies, which never blocks.
        unsafe {
            c::rd_kafka_queue_cb_event_enable(
                queue.as_ptr(),
                Some(wake),
                Arc::as_ptr(&notify).cast_mut().cast(),
            );
        }
        Some(Self { queue, main, consumer: Some(consumer), notify })
    }

    /// Tells the context what concerns the client as a whole, without waiting.
    pub fn events(&mut self, context: &Context) {
        for _ in 0..EVENTS {
            // SAFETY: the queue is valid until Drop; the event is ours, and destroyed below.
            let Some(event) = NonNull::new(unsafe { c::rd_kafka_queue_poll(self.main.as_ptr(), 0) }) else {
                return;
            };
            let event = event.as_ptr();
            // SAFETY: the event is valid until it is destroyed, once, at the end, and so are its texts.
            unsafe {
                match c::rd_kafka_event_type(event) {
                    c::RD_KAFKA_EVENT_ERROR => {
                        let code = c::rd_kafka_event_error(event).into();
                        context.error(KafkaError::Global(code), &text(c::rd_kafka_event_error_string(event)));
                    }
                    c::RD_KAFKA_EVENT_LOG => {
                        let (mut facility, mut line, mut level) = (std::ptr::null(), std::ptr::null(), 0);
                        let found =
                            c::rd_kafka_event_log(event, &raw mut facility, &raw mut line, &raw mut level);
                        if found == 0 {
                            context.log(log_level(level), &text(facility), &text(line));
                        }
                    }
                    _ => {}
                }
                c::rd_kafka_event_destroy(event);
            }
        }
    }

    /// The consumer.
    pub fn consumer(&self) -> Option<&BaseConsumer<Context>> {
        self.consumer.as_ref()
    }

    /// Told when the queue was empty and is not any more.
    pub fn notify(&self) -> Arc<Notify> {
        Arc::clone(&self.notify)
    }

    /// Gives up to a batch of what waits to `each`, without waiting; says whether there may be more.
    pub fn drain(&mut self, mut each: impl FnMut(RawMessage<'_>)) -> bool {
        let mut messages: [*mut c::rd_kafka_message_t; BATCH] = [std::ptr::null_mut(); BATCH];
        // SAFETY: the queue is valid until Drop; the array has room for BATCH pointers.
        let got =
            unsafe { c::rd_kafka_consume_batch_queue(self.queue.as_ptr(), 0, messages.as_mut_ptr(), BATCH) };
        let count = usize::try_from(got).unwrap_or(0).min(BATCH);
        for pointer in messages.iter().take(count) {
            // SAFETY: librdkafka filled the first `count` entries with messages that are ours to destroy; the
            // reference ends before the message is destroyed.
            if let Some(message) = unsafe { pointer.as_ref() } {
                each(RawMessage { message, _batch: PhantomData });
                // SAFETY: destroyed once, not used after.
                unsafe { c::rd_kafka_message_destroy(*pointer) };
            }
        }
        count == BATCH
    }
}

impl Drop for ConsumerQueue {
    fn drop(&mut self) {
        // SAFETY: switching the callback off takes the queue's lock, under which it is called: it does not run
        // after this. The references to the queues are given back once.
        unsafe {
            c::rd_kafka_queue_cb_event_enable(self.queue.as_ptr(), None, std::ptr::null_mut());
            c::rd_kafka_queue_destroy(self.queue.as_ptr());
            c::rd_kafka_queue_destroy(self.main.as_ptr());
        }
        if let Some(consumer) = self.consumer.take() {
            // Closing waits for librdkafka's threads; that must not hold up a task.
            let closing =
                std::thread::Builder::new().name("kafka-close".into()).spawn(move || drop(consumer));
            drop(closing);
        }
    }
}

/// # Safety
/// `pointer` is null or a NUL-terminated string.
unsafe fn text(pointer: *const c_char) -> String {
    if pointer.is_null() {
        return String::new();
    }
    // SAFETY: by the caller's promise.
    unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned()
}

/// syslog's numbers.
fn log_level(level: i32) -> RDKafkaLogLevel {
    match level {
        ..=2 => RDKafkaLogLevel::Critical,
        3 => RDKafkaLogLevel::Error,
        4..=5 => RDKafkaLogLevel::Notice,
        6 => RDKafkaLogLevel::Info,
        _ => RDKafkaLogLevel::Debug,
    }
}

unsafe extern "C" fn wake(_: *mut c::rd_kafka_t, opaque: *mut c_void) {
    // SAFETY: `opaque` is the Notify of a living ConsumerQueue (see `new` and Drop).
    if let Some(notify) = unsafe { opaque.cast::<Notify>().as_ref() } {
        notify.notify_one();
    }
}

impl RawMessage<'_> {
    /// The error or event; `None` for a record.
    pub fn error(&self) -> Option<RDKafkaErrorCode> {
        match self.message.err {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => None,
            other => Some(other.into()),
        }
    }

    /// Topic name; empty for what belongs to no topic.
    pub fn topic(&self) -> &[u8] {
        if self.message.rkt.is_null() {
            return &[];
        }
        // SAFETY: rkt is valid while the message is, and its name is a NUL-terminated string.
        unsafe { CStr::from_ptr(c::rd_kafka_topic_name(self.message.rkt)) }.to_bytes()
    }

    /// Partition.
    pub fn partition(&self) -> i32 {
        self.message.partition
    }

    /// Offset of the record.
    pub fn offset(&self) -> i64 {
        self.message.offset
    }

    /// Milliseconds since 1970; -1 where the broker has none.
    pub fn timestamp(&self) -> i64 {
        let mut kind = c::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: both pointers are valid.
        unsafe { c::rd_kafka_message_timestamp(self.message, &raw mut kind) }
    }

    /// The leader's epoch when the record was written; `None` where the broker has none.
    pub fn leader_epoch(&self) -> Option<i32> {
        // SAFETY: the message is valid while `self` is.
        Some(unsafe { c::rd_kafka_message_leader_epoch(self.message) }).filter(|epoch| *epoch >= 0)
    }

    /// Key.
    pub fn key(&self) -> Option<&[u8]> {
        // SAFETY: librdkafka's pointer and length of this message.
        unsafe { bytes(self.message.key.cast_const(), self.message.key_len) }
    }

    /// Value. For an event: its text.
    pub fn value(&self) -> Option<&[u8]> {
        // SAFETY: librdkafka's pointer and length of this message.
        unsafe { bytes(self.message.payload.cast_const(), self.message.len) }
    }

    /// Headers in order.
    pub fn headers(&self) -> RawHeaders<'_> {
        let mut headers = std::ptr::null_mut();
        // SAFETY: both pointers are valid; the headers belong to the message.
        let result = unsafe { c::rd_kafka_message_headers(self.message, &raw mut headers) };
        let count = if result == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR && !headers.is_null() {
            // SAFETY: not null, and valid while the message is.
            unsafe { c::rd_kafka_header_cnt(headers) }
        } else {
            0
        };
        RawHeaders { headers, next: 0, count, _message: PhantomData }
    }
}

/// Iterator over a message's headers.
pub struct RawHeaders<'a> {
    headers: *mut c::rd_kafka_headers_t,
    next: usize,
    count: usize,
    _message: PhantomData<&'a ()>,
}

impl<'a> Iterator for RawHeaders<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.count {
            return None;
        }
        let (mut name, mut value, mut size) = (std::ptr::null(), std::ptr::null(), 0usize);
        // SAFETY: `headers` is valid for 'a and has `count` entries.
        let result = unsafe {
            c::rd_kafka_header_get_all(self.headers, self.next, &raw mut name, &raw mut value, &raw mut size)
        };
        self.next += 1;
        if result != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR || name.is_null() {
            return None;
        }
        // SAFETY: name is a NUL-terminated string, value has `size` bytes; both live as long as the message.
        unsafe { Some((CStr::from_ptr(name).to_bytes(), bytes(value, size))) }
    }
}

/// # Safety
/// `pointer` is null or points to `len` bytes that live for 'a.
unsafe fn bytes<'a>(pointer: *const c_void, len: usize) -> Option<&'a [u8]> {
    if pointer.is_null() {
        return None;
    }
    // SAFETY: by the caller's promise.
    Some(unsafe { std::slice::from_raw_parts(pointer.cast::<u8>(), len) })
}
