/* A plugin of QEMU's user mode: counts the instructions that a program executes, each one once, by function.
 *
 *     qemu-aarch64 -plugin count_instructions.so,out=PATH ./program
 *
 * When the program ends, PATH holds a line for each function that ran: its count and its name, "-" for what lies in no
 * function. For programs of one thread: counters are not atomic. Debian ships no qemu-plugin.h; what is declared here
 * is the part of version 1 of that interface that is used (QEMU 4.2 and later, docs/devel/tcg-plugins.rst). */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORTED __attribute__((visibility("default")))

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum { INLINE_ADD_U64 = 0 };

void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id id, void (*translated)(plugin_id, struct qemu_plugin_tb *));
void qemu_plugin_register_atexit_cb(plugin_id id, void (*ended)(plugin_id, void *), void *data);
void qemu_plugin_register_vcpu_insn_exec_inline(struct qemu_plugin_insn *insn, int op, void *counter, uint64_t more);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t index);
const char *qemu_plugin_insn_symbol(const struct qemu_plugin_insn *insn);

EXPORTED int qemu_plugin_version = 1;

typedef struct function {
    struct function *next;
    uint64_t count;
    char name[];
} function;

static function *functions;
static const char *out_path;

static function *function_of(const char *name)
{
    function *found = functions;
    while (found != NULL && strcmp(found->name, name) != 0) found = found->next;
    if (found == NULL) {
        found = calloc(1, sizeof *found + strlen(name) + 1);
        if (found == NULL) abort();
        strcpy(found->name, name);
        found->next = functions;
        functions = found;
    }
    return found;
}

static void translated(plugin_id id, struct qemu_plugin_tb *tb)
{
    (void)id;
    for (size_t i = 0; i < qemu_plugin_tb_n_insns(tb); i++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
        const char *symbol = qemu_plugin_insn_symbol(insn);
        function *owner = function_of(symbol != NULL && symbol[0] != '\0' ? symbol : "-");
        qemu_plugin_register_vcpu_insn_exec_inline(insn, INLINE_ADD_U64, &owner->count, 1);
    }
}

static void ended(plugin_id id, void *data)
{
    (void)id, (void)data;
    FILE *file = fopen(out_path, "w");
    if (file == NULL) {
        fprintf(stderr, "count_instructions: %s cannot be written\n", out_path);
        return;
    }
    for (const function *f = functions; f != NULL; f = f->next)
        fprintf(file, "%llu %s\n", (unsigned long long)f->count, f->name);
    fclose(file);
}

EXPORTED int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv)
{
    (void)info;
    if (argc != 1 || strncmp(argv[0], "out=", 4) != 0) {
        fprintf(stderr, "count_instructions: say where the counts go: out=PATH\n");
        return 1;
    }
    out_path = strdup(argv[0] + 4);
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, ended, NULL);
    return 0;
}
