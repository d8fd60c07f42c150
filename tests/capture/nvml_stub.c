// Stands in for NVIDIA's driver: three GPUs of 80 GB, of which the last one supports only its temperature.
#include <stdio.h>
#include <string.h>

typedef struct { unsigned int gpu, memory; } Utilization;
typedef struct { unsigned long long total, free, used; } Memory;

static const char *ids[] = {"GPU-aaaa-1", "GPU-bbbb-2", "GPU-cccc-3"};
static int handles[] = {0, 1, 2};

#define NUMBER(device) (*(int *)(device))
#define ONLY_FIRST_TWO(device) if (NUMBER(device) > 1) return 3  // NVML_ERROR_NOT_SUPPORTED

int nvmlInitWithFlags(unsigned int flags) { return 0; }
const char *nvmlErrorString(int code) { return "an error"; }
int nvmlDeviceGetCount_v2(unsigned int *count) { *count = 3; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **device) { *device = &handles[index]; return 0; }
int nvmlDeviceGetUUID(void *device, char *id, unsigned int length) {
    strncpy(id, ids[NUMBER(device)], length);
    return 0;
}
int nvmlDeviceGetUtilizationRates(void *device, Utilization *rates) {
    ONLY_FIRST_TWO(device);
    rates->gpu = 10 * (NUMBER(device) + 1);
    rates->memory = 99;
    return 0;
}
int nvmlDeviceGetMemoryInfo(void *device, Memory *memory) {
    ONLY_FIRST_TWO(device);
    memory->total = 80000000000ULL;
    memory->used = 8000000000ULL * (NUMBER(device) + 1);
    memory->free = memory->total - memory->used;
    return 0;
}
int nvmlDeviceGetPowerUsage(void *device, unsigned int *milliwatts) {
    ONLY_FIRST_TWO(device);
    *milliwatts = 100000 + 1000 * NUMBER(device);
    return 0;
}
int nvmlDeviceGetTemperature(void *device, int sensor, unsigned int *celsius) {
    *celsius = sensor == 0 ? 40 + NUMBER(device) : 0;
    return 0;
}
