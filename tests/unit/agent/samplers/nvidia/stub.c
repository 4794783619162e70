/* A driver of our own making under the real nvidia-ml-py: what it says lies in `driver` and
 * `gpus`, which the tests write to directly (see stub.py, whose structs mirror these). Every
 * call is counted, can be made to fail with any code, and can be made to hang.
 *
 * -DOLD leaves out what a driver of 2021 did not have; -DNO_V2 the second versions as well.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { GPUS = 8, MIGS = 8, SAMPLES = 160, PROCESSES = 32, RULES = 32, CALLS = 96, NAME = 64 };
typedef unsigned int u32;
typedef unsigned long long u64;

struct process { u32 pid, instance, weight, running; u64 stamp, total, started; };
struct mig { u32 is_mig, present, instance, gpu_slices, compute_slices, use, process_count, pad;
             u64 memory_mb; char uuid[NAME], name[NAME]; struct process processes[PROCESSES]; };
struct gpu { u32 is_mig, minor, domain, bus, mig_mode, max_migs, use, sample_count;
             u32 process_count, sampled_count, accounting, has_gpm;
             u64 energy_mj, memory_used, memory_total; char uuid[NAME], name[NAME];
             u64 stamps[SAMPLES]; u32 values[SAMPLES];
             struct process processes[PROCESSES]; struct mig migs[MIGS]; };
struct rule { char call[NAME]; int gpu, code, is_hanging; };
struct call { char call[NAME]; long count; };
struct driver { u32 count, stride, growing, probe_succeeds, zero_tail, is_double; u64 asked_since;
                struct rule rules[RULES]; struct call calls[CALLS]; };

/* NVML's own. */
struct pci { char legacy[16]; u32 domain, bus, device, id, sub; char bus_id[32]; };
struct rates { u32 gpu, memory; };
struct memory_v1 { u64 total, free, used; };
struct memory_v2 { u32 version; u64 total, reserved, free, used; };
struct info { u64 stamp; u32 pid, sm, mem, enc, dec, jpg, ofa; };
struct question { u32 version, count; u64 since; struct info *infos; };
struct attributes { u32 sms, copy, dec, enc, jpg, ofa, gpu, compute; u64 mb; };
struct support { u32 version, yes; };
struct metric { u32 id; int code; double value; char *names[3]; };
struct metrics { u32 version, count; double *first, *second; struct metric metrics[1]; };

struct driver driver;
struct gpu gpus[GPUS];

static int enter(const char *call, int gpu) {
    for (int i = 0; i < CALLS; i++) {
        if (!driver.calls[i].call[0]) strncpy(driver.calls[i].call, call, NAME - 1);
        if (!strcmp(driver.calls[i].call, call)) { driver.calls[i].count++; break; }
    }
    for (int i = 0; i < RULES; i++) {
        volatile struct rule *rule = &driver.rules[i];
        if (strcmp((const char *)rule->call, call) && strcmp((const char *)rule->call, "*")) continue;
        if (rule->gpu >= 0 && rule->gpu != gpu) continue;
        while (rule->is_hanging) usleep(1000);
        if (rule->code) return rule->code;
    }
    return 0;
}
static struct gpu *parent(struct gpu *device) {
    if (!device->is_mig) return device;
    return &gpus[((char *)device - (char *)gpus) / sizeof(struct gpu)];
}
static int number(struct gpu *device) { return (int)(parent(device) - gpus); }

#define ENTER(gpu) do { int code = enter(__func__, gpu); if (code) return code; } while (0)
#define MIG(device) ((struct mig *)(device))

int nvmlInitWithFlags(u32 flags) {
    (void)flags;
    ENTER(-1);
#ifdef TWO /* for who cannot write to us: two GPUs, and a code from the environment */
    driver.count = 2;
    strcpy(gpus[0].uuid, "GPU-one");
    strcpy(gpus[1].uuid, "GPU-two");
    if (getenv("STUB_INIT")) return atoi(getenv("STUB_INIT"));
#endif
    return 0;
}
int nvmlShutdown(void) { ENTER(-1); return 0; }
const char *nvmlErrorString(int code) { (void)code; return "the stub's error"; }
int nvmlSystemGetDriverVersion(char *text, u32 size) { ENTER(-1); strncpy(text, "610.1.stub", size); return 0; }
int nvmlDeviceGetCount_v2(u32 *count) { ENTER(-1); *count = driver.count; return 0; }
int nvmlDeviceGetHandleByIndex_v2(u32 index, struct gpu **device) {
    ENTER((int)index);
    if (index >= driver.count) return 2;
    *device = &gpus[index];
    return 0;
}
int nvmlDeviceGetUUID(struct gpu *device, char *text, u32 size) {
    ENTER(number(device));
    strncpy(text, device->is_mig ? MIG(device)->uuid : device->uuid, size);
    return 0;
}
int nvmlDeviceGetName(struct gpu *device, char *text, u32 size) {
    ENTER(number(device));
    strncpy(text, device->is_mig ? MIG(device)->name : device->name, size);
    return 0;
}
int nvmlDeviceGetMinorNumber(struct gpu *device, u32 *minor) { ENTER(number(device)); *minor = device->minor; return 0; }
int nvmlDeviceGetPciInfo_v3(struct gpu *device, struct pci *pci) {
    ENTER(number(device));
    pci->domain = device->domain;
    pci->bus = device->bus;
    pci->device = 0;
    return 0;
}
int nvmlDeviceGetUtilizationRates(struct gpu *device, struct rates *rates) {
    ENTER(number(device));
    if (device->mig_mode) return 3;
    rates->gpu = device->use;
    return 0;
}
struct sample { u64 stamp; u64 value; };
int nvmlDeviceGetSamples(struct gpu *device, u32 type, u64 since, u32 *value_type, u32 *count, struct sample *samples) {
    (void)type;
    ENTER(number(device));
    if (device->mig_mode) return 3;
    *value_type = driver.is_double ? 0 : 1;
    if (!samples) { *count = SAMPLES; return 0; }
    if (*count < SAMPLES) return 7;
    u32 given = 0;
    for (u32 i = 0; i < device->sample_count && given < *count; i++)
        if (device->stamps[i] > since) {
            double value = device->values[i];
            samples[given].stamp = device->stamps[i];
            if (driver.is_double) memcpy(&samples[given].value, &value, sizeof value);
            else samples[given].value = device->values[i] | 0xdead00000000ull; /* the rest is anything */
            given++;
        }
    *count = given;
    return given ? 0 : 6;
}
int nvmlDeviceGetTotalEnergyConsumption(struct gpu *device, u64 *mj) { ENTER(number(device)); *mj = device->energy_mj; return 0; }
static void memory(struct gpu *device, u64 *total, u64 *used) {
    *total = device->is_mig ? MIG(device)->memory_mb << 20 : device->memory_total;
    *used = device->is_mig ? 1 << 20 : device->memory_used;
}
int nvmlDeviceGetMemoryInfo(struct gpu *device, struct memory_v1 *info) {
    ENTER(number(device));
    memory(device, &info->total, &info->used);
    info->used += 1 << 29; /* what the driver reserves is in it */
    return 0;
}
#ifndef OLD
int nvmlDeviceGetMemoryInfo_v2(struct gpu *device, struct memory_v2 *info) {
    ENTER(number(device));
    if (info->version != 0x02000028) return 25;
    memory(device, &info->total, &info->used);
    return 0;
}
#endif

static int list(struct gpu *device, u32 *count, char *room) {
    u32 n = device->is_mig ? MIG(device)->process_count : device->process_count;
    struct process *all = device->is_mig ? MIG(device)->processes : device->processes;
    if (!n) { *count = 0; return 0; }
    if (!room || driver.growing) {
        if (room) driver.growing--;
        *count = n;
        return 7;
    }
    for (u32 i = 0; i < n; i++) {
        char *at = room + i * driver.stride;
        u64 bytes = ~0ull;
        memcpy(at, &all[i].pid, 4);
        memcpy(at + 8, &bytes, 8);
        if (driver.stride >= 24) { memcpy(at + 16, &all[i].instance, 4); memcpy(at + 20, &all[i].instance, 4); }
        if (driver.stride >= 32) memset(at + 24, 0, 8);
    }
    *count = n;
    return 0;
}
#define LIST(name) int name(struct gpu *device, u32 *count, char *room) { ENTER(number(device)); return list(device, count, room); }
#define EMPTY(name) int name(struct gpu *device, u32 *count, char *room) { (void)room; ENTER(number(device)); *count = 0; return 0; }
#ifndef OLD
LIST(nvmlDeviceGetComputeRunningProcesses_v3)
EMPTY(nvmlDeviceGetGraphicsRunningProcesses_v3)
EMPTY(nvmlDeviceGetMPSComputeRunningProcesses_v3)
#endif
#ifndef NO_V2
LIST(nvmlDeviceGetComputeRunningProcesses_v2)
EMPTY(nvmlDeviceGetGraphicsRunningProcesses_v2)
EMPTY(nvmlDeviceGetMPSComputeRunningProcesses_v2)
#endif
LIST(nvmlDeviceGetComputeRunningProcesses)
EMPTY(nvmlDeviceGetGraphicsRunningProcesses)

struct util { u32 pid; u64 stamp; u32 sm, mem, enc, dec; };
int nvmlDeviceGetProcessUtilization(struct gpu *device, struct util *samples, u32 *count, u64 since) {
    ENTER(number(device));
    driver.asked_since = since;
    if (device->mig_mode) return 3;
    u32 newer = 0;
    for (u32 i = 0; i < device->sampled_count; i++) newer += device->processes[i].stamp > since;
    if (!newer) return 6;
    if (!samples || driver.growing) {
        if (samples) driver.growing--;
        *count = driver.zero_tail ? 100 : device->sampled_count;
        return driver.probe_succeeds ? 0 : 7;
    }
    memset(samples, 0, *count * sizeof *samples);
    for (u32 i = 0; i < device->sampled_count; i++) { /* stale ones, too */
        samples[i].pid = device->processes[i].pid;
        samples[i].stamp = device->processes[i].stamp;
        samples[i].sm = device->processes[i].weight;
    }
    if (!driver.zero_tail) *count = device->sampled_count;
    return 0;
}
#ifndef OLD
int nvmlDeviceGetProcessesUtilizationInfo(struct gpu *device, struct question *question) {
    ENTER(number(device));
    if (!question->infos) { question->count = device->sampled_count; return question->count ? 7 : 6; }
    for (u32 i = 0; i < device->sampled_count; i++) {
        question->infos[i].pid = device->processes[i].pid;
        question->infos[i].stamp = device->processes[i].stamp;
        question->infos[i].sm = device->processes[i].weight;
    }
    return 0;
}
struct stats { u32 pid, running, gpu, mem; u64 most; u32 samples; u64 sum, sum_mem, time, started; };
int nvmlDeviceGetAccountingStats_v2(struct gpu *device, struct stats *stats) {
    ENTER(number(device));
    for (u32 i = 0; i < PROCESSES; i++)
        if (device->processes[i].pid == stats->pid && stats->pid) {
            stats->running = device->processes[i].running;
            stats->sum = device->processes[i].total;
            stats->started = device->processes[i].started;
            return 0;
        }
    return 6;
}
#endif
int nvmlDeviceGetAccountingMode(struct gpu *device, u32 *mode) { ENTER(number(device)); *mode = device->accounting; return 0; }

int nvmlDeviceGetMigMode(struct gpu *device, u32 *now, u32 *pending) {
    ENTER(number(device));
    if (!device->max_migs) return 3;
    *now = *pending = device->mig_mode;
    return 0;
}
int nvmlDeviceGetMaxMigDeviceCount(struct gpu *device, u32 *count) { ENTER(number(device)); *count = device->max_migs; return 0; }
int nvmlDeviceGetMigDeviceHandleByIndex(struct gpu *device, u32 index, struct mig **mig) {
    ENTER(number(device));
    if (!device->migs[index].present) return 6;
    *mig = &device->migs[index];
    return 0;
}
int nvmlDeviceIsMigDeviceHandle(struct gpu *device, u32 *is_mig) { ENTER(number(device)); *is_mig = device->is_mig; return 0; }
int nvmlDeviceGetGpuInstanceId(struct gpu *device, u32 *id) { ENTER(number(device)); *id = MIG(device)->instance; return 0; }
int nvmlDeviceGetAttributes_v2(struct gpu *device, struct attributes *out) {
    ENTER(number(device));
    out->gpu = MIG(device)->gpu_slices;
    out->compute = MIG(device)->compute_slices;
    out->mb = MIG(device)->memory_mb;
    return 0;
}
#ifndef OLD
int nvmlGpmQueryDeviceSupport(struct gpu *device, struct support *out) { ENTER(number(device)); out->yes = device->has_gpm; return 0; }
int nvmlGpmSampleAlloc(double **sample) { ENTER(-1); *sample = malloc(sizeof(double)); return 0; }
int nvmlGpmSampleFree(double *sample) { ENTER(-1); free(sample); return 0; }
int nvmlGpmMigSampleGet(struct gpu *device, u32 instance, double *sample) {
    ENTER(number(device));
    for (int i = 0; i < MIGS; i++)
        if (device->migs[i].present && device->migs[i].instance == instance) { *sample = device->migs[i].use; return 0; }
    return 2;
}
int nvmlGpmMetricsGet(struct metrics *question) {
    ENTER(-1);
    question->metrics[0].code = question->metrics[0].id != 1 ? 2 : *question->first < 0 ? 21 : 0;
    question->metrics[0].value = *question->second;
    return 0;
}
#endif
