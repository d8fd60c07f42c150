// Stands in for AMD's library: a socket with two GPUs of 80 GB, and one with a GPU that supports only its temperature.
// The numbers in HIP are not those of amd-smi.
#include <stdint.h>
#include <string.h>

typedef struct { uint32_t gfx, umc, mm, reserved[13]; } Activity;
typedef struct {
    uint64_t socket;
    uint32_t current, average;
    uint64_t gfx_voltage, soc_voltage, memory_voltage;
    uint32_t limit;
    uint64_t reserved[18];
} Power;
typedef struct { uint32_t render, card, hsa, hip; char uuid[256]; } Enumeration;

static const int in_hip[] = {1, 0, 2};
static const char *ids[] = {"GPU-aaaa1", "GPU-bbbb2", "GPU-cccc3"};
static int gpus[] = {0, 1, 2};
static int sockets[] = {0, 1};

#define NUMBER(gpu) (*(int *)(gpu))
#define ONLY_FIRST_TWO(gpu) if (NUMBER(gpu) > 1) return 2  // AMDSMI_STATUS_NOT_SUPPORTED
#define UNKNOWN 0xFFFF

int amdsmi_init(uint64_t flags) { return 0; }
int amdsmi_get_socket_handles(uint32_t *count, void **handles) {
    *count = 2;
    for (int i = 0; handles && i < 2; i++) handles[i] = &sockets[i];
    return 0;
}
int amdsmi_get_processor_handles(void *socket, uint32_t *count, void **handles) {
    int is_second = NUMBER(socket);
    *count = is_second ? 1 : 2;
    for (uint32_t i = 0; handles && i < *count; i++) handles[i] = &gpus[is_second ? 2 : i];
    return 0;
}
int amdsmi_get_gpu_enumeration_info(void *gpu, Enumeration *info) {
    info->hip = in_hip[NUMBER(gpu)];
    strcpy(info->uuid, ids[NUMBER(gpu)]);
    return 0;
}
int amdsmi_get_gpu_activity(void *gpu, Activity *activity) {
    if (NUMBER(gpu) > 1) activity->gfx = UNKNOWN;
    else activity->gfx = 10 * (NUMBER(gpu) + 1);
    activity->umc = 99;
    return 0;
}
int amdsmi_get_gpu_memory_total(void *gpu, int kind, uint64_t *bytes) { *bytes = 80000000000ULL; return 0; }
int amdsmi_get_gpu_memory_usage(void *gpu, int kind, uint64_t *bytes) {
    ONLY_FIRST_TWO(gpu);
    *bytes = 8000000000ULL * (NUMBER(gpu) + 1);
    return kind;  // 0 is the memory on the GPU, and no error
}
int amdsmi_get_power_info(void *gpu, Power *power) {
    ONLY_FIRST_TWO(gpu);
    power->average = NUMBER(gpu) == 0 ? 100 : UNKNOWN;
    power->current = NUMBER(gpu) == 0 ? UNKNOWN : 101;
    return 0;
}
int amdsmi_get_temp_metric(void *gpu, int sensor, int metric, int64_t *celsius) {
    *celsius = sensor == 1 && metric == 0 ? 40 + NUMBER(gpu) : 0;
    return 0;
}
