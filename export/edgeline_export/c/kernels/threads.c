/* A pool of threads for large layers, and for many samples, in libraries that are compiled with EDGELINE_THREADS.
 *
 * The work is cut into parts, and each thread takes the next one: a thread that the system held up holds nobody else
 * up. The caller closes the work when no part is left and waits only for those that have begun, so one that still
 * sleeps is not waited for. Layers follow each other within microseconds, so a worker looks for the next one for a
 * while (EDGELINE_SPINS) before it sleeps. One call at a time uses a pool. Needs POSIX threads and GNU C's atomics.
 *
 * needs: run */

#ifdef EDGELINE_THREADS

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

enum { EDGELINE_PARTS_PER_THREAD = 4, EDGELINE_SPINS = 4000 };

/* In `state`: nothing to begin with. Below it, how many workers are at work. */
#define EDGELINE_CLOSED 0x40000000u

struct edgeline_threads {
    int threads; /* the caller's included */
    size_t arena_bytes;
    unsigned char *arenas; /* of each worker, for samples; NULL where layers are shared */
    pthread_mutex_t busy, lock;
    pthread_cond_t wake;
    int sleeping, stop;   /* under `lock` */
    unsigned turn, state; /* atomic; a new number of `turn` is new work */
    int next, parts;      /* `next` is atomic, as `taken`; the rest is written while `state` is closed */
    size_t taken, at_once;
    const edgeline_run *run;
    edgeline_step *step;
    pthread_t workers[];
};

static void edgeline_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void edgeline_threads_parts(struct edgeline_threads *pool)
{
    for (;;) {
        const int part = __atomic_fetch_add(&pool->next, 1, __ATOMIC_RELAXED);
        if (part >= pool->parts) return;
        pool->step(pool->run, part, pool->parts);
    }
}

static void *edgeline_threads_worker(void *argument)
{
    struct edgeline_threads *pool = argument;
    unsigned seen = 0;
    for (;;) {
        for (int spins = 0; __atomic_load_n(&pool->turn, __ATOMIC_ACQUIRE) == seen; spins++) {
            if (spins < EDGELINE_SPINS) {
                edgeline_pause();
                continue;
            }
            pthread_mutex_lock(&pool->lock);
            pool->sleeping++;
            while (__atomic_load_n(&pool->turn, __ATOMIC_ACQUIRE) == seen && !pool->stop)
                pthread_cond_wait(&pool->wake, &pool->lock);
            pool->sleeping--;
            const int stop = pool->stop;
            pthread_mutex_unlock(&pool->lock);
            if (stop) return NULL;
        }
        seen = __atomic_load_n(&pool->turn, __ATOMIC_ACQUIRE);
        /* Who comes late finds it closed, or new work that began in between: then it is counted for that. */
        if (!(__atomic_fetch_add(&pool->state, 1, __ATOMIC_ACQUIRE) & EDGELINE_CLOSED)) edgeline_threads_parts(pool);
        __atomic_fetch_sub(&pool->state, 1, __ATOMIC_RELEASE);
    }
}

/* Computes so many parts of a step; `at_once` is for edgeline_threads_samples. */
static void edgeline_threads_run(
    struct edgeline_threads *pool, edgeline_step *step, const edgeline_run *run, int parts, size_t at_once)
{
    pthread_mutex_lock(&pool->busy);
    pool->run = run;
    pool->step = step;
    pool->parts = parts;
    pool->at_once = at_once;
    __atomic_store_n(&pool->taken, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&pool->next, 0, __ATOMIC_RELAXED);
    __atomic_fetch_and(&pool->state, ~EDGELINE_CLOSED, __ATOMIC_RELEASE);
    pthread_mutex_lock(&pool->lock);
    __atomic_fetch_add(&pool->turn, 1, __ATOMIC_RELEASE);
    if (pool->sleeping > 0) pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
    edgeline_threads_parts(pool);
    unsigned working = __atomic_or_fetch(&pool->state, EDGELINE_CLOSED, __ATOMIC_ACQUIRE);
    for (int spins = 0; working != EDGELINE_CLOSED; spins++) {
        if (spins < EDGELINE_SPINS)
            edgeline_pause();
        else
            sched_yield();
        working = __atomic_load_n(&pool->state, __ATOMIC_ACQUIRE);
    }
    pthread_mutex_unlock(&pool->busy);
}

static void edgeline_threads_end(struct edgeline_threads *pool, int started)
{
    pthread_mutex_lock(&pool->lock);
    pool->stop = 1;
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
    for (int i = 0; i < started; i++) pthread_join(pool->workers[i], NULL);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->lock);
    pthread_mutex_destroy(&pool->busy);
    free(pool->arenas);
    free(pool);
}

/* `arena_bytes`: of each worker's own arena, 0 for none. */
static struct edgeline_threads *edgeline_threads_start(int threads, size_t arena_bytes)
{
    const size_t workers = threads > 1 ? (size_t)threads - 1 : 0;
    struct edgeline_threads *pool = calloc(1, sizeof *pool + workers * sizeof pool->workers[0]);
    if (pool == NULL) return NULL;
    pool->threads = (int)workers + 1;
    pool->state = EDGELINE_CLOSED;
    const size_t lines = (arena_bytes + EDGELINE_ARENA_ALIGNMENT - 1) / EDGELINE_ARENA_ALIGNMENT;
    pool->arena_bytes = lines * EDGELINE_ARENA_ALIGNMENT;
    void *arenas = NULL;
    if (workers * arena_bytes > 0
        && posix_memalign(&arenas, EDGELINE_ARENA_ALIGNMENT, workers * pool->arena_bytes) != 0) {
        free(pool);
        return NULL;
    }
    pool->arenas = arenas;
    pthread_mutex_init(&pool->busy, NULL);
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    for (int i = 0; i < (int)workers; i++)
        if (pthread_create(&pool->workers[i], NULL, edgeline_threads_worker, pool) != 0) {
            edgeline_threads_end(pool, i);
            return NULL;
        }
    return pool;
}

/* Computes the samples of a call, run->rows of them, a part for each thread. A part takes a few samples at a time, as
 * edgeline_threads_samples says: at most a block of them, and as many each time. */
EDGELINE_INLINE void edgeline_threads_share(edgeline_step *step, const edgeline_run *run, size_t block)
{
    const size_t threads = (size_t)run->pool->threads;
    const size_t share = (run->rows + threads - 1) / threads, times = (share + block - 1) / block;
    edgeline_threads_run(run->pool, step, run, run->pool->threads, (share + times - 1) / times);
}

/* Returns how many samples a part computes next, and the first of them; 0 when none is left. */
EDGELINE_INLINE size_t edgeline_threads_samples(const edgeline_run *run, size_t *first)
{
    struct edgeline_threads *pool = run->pool;
    *first = __atomic_fetch_add(&pool->taken, pool->at_once, __ATOMIC_RELAXED);
    if (*first >= run->rows) return 0;
    return run->rows - *first < pool->at_once ? run->rows - *first : pool->at_once;
}

/* Returns the arena of a part: the caller's for the first, whichever thread computes it. */
EDGELINE_INLINE unsigned char *edgeline_threads_arena(const edgeline_run *run, int part)
{
    return part == 0 ? run->arena : run->pool->arenas + (size_t)(part - 1) * run->pool->arena_bytes;
}

#endif

/* Computes a layer, by the pool's threads where there is one. */
EDGELINE_INLINE void edgeline_each(edgeline_step *step, const edgeline_run *run)
{
#ifdef EDGELINE_THREADS
    if (run->pool != NULL) {
        edgeline_threads_run(run->pool, step, run, run->pool->threads * EDGELINE_PARTS_PER_THREAD, 0);
        return;
    }
#endif
    step(run, 0, 1);
}
