/* A pool of threads for layers that are large enough, in libraries that are compiled with EDGELINE_THREADS.
 *
 * A layer is cut into more parts than there are threads, and each takes the next one: a thread that the system held up
 * holds nobody else up. Layers follow each other within microseconds, so a worker looks for the next one for a while
 * (EDGELINE_SPINS) before it sleeps. One call at a time uses a pool. Needs POSIX threads and GNU C's atomics.
 *
 * needs: run */

#ifdef EDGELINE_THREADS

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

enum { EDGELINE_PARTS_PER_THREAD = 4, EDGELINE_SPINS = 4000 };

struct edgeline_threads {
    int threads; /* the caller's included */
    pthread_mutex_t busy, lock;
    pthread_cond_t wake;
    int sleeping, stop; /* under `lock` */
    unsigned turn;      /* atomic, as what follows; a new number is a new layer */
    int next, working;
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
    const int parts = pool->threads * EDGELINE_PARTS_PER_THREAD;
    for (;;) {
        const int part = __atomic_fetch_add(&pool->next, 1, __ATOMIC_RELAXED);
        if (part >= parts) return;
        pool->step(pool->run, part, parts);
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
        edgeline_threads_parts(pool);
        __atomic_fetch_sub(&pool->working, 1, __ATOMIC_RELEASE);
    }
}

static void edgeline_threads_run(struct edgeline_threads *pool, edgeline_step *step, const edgeline_run *run)
{
    pthread_mutex_lock(&pool->busy);
    pool->run = run;
    pool->step = step;
    __atomic_store_n(&pool->next, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&pool->working, pool->threads - 1, __ATOMIC_RELAXED);
    pthread_mutex_lock(&pool->lock);
    __atomic_fetch_add(&pool->turn, 1, __ATOMIC_RELEASE);
    if (pool->sleeping > 0) pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
    edgeline_threads_parts(pool);
    for (int spins = 0; __atomic_load_n(&pool->working, __ATOMIC_ACQUIRE) > 0; spins++) {
        if (spins < EDGELINE_SPINS)
            edgeline_pause();
        else
            sched_yield();
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
    free(pool);
}

static struct edgeline_threads *edgeline_threads_start(int threads)
{
    const size_t workers = threads > 1 ? (size_t)threads - 1 : 0;
    struct edgeline_threads *pool = calloc(1, sizeof *pool + workers * sizeof pool->workers[0]);
    if (pool == NULL) return NULL;
    pool->threads = (int)workers + 1;
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

#endif

/* Computes a layer, by the pool's threads where there is one. */
EDGELINE_INLINE void edgeline_each(edgeline_step *step, const edgeline_run *run)
{
#ifdef EDGELINE_THREADS
    if (run->pool != NULL) {
        edgeline_threads_run(run->pool, step, run);
        return;
    }
#endif
    step(run, 0, 1);
}
